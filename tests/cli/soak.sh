# A short soak: tests/soak/soak.sh says what it does; longer ones find more.
bash "$root/tests/soak/soak.sh" "$(command -v kvzip)" 3 >stdout
[ "$(wc -l <stdout)" = 11 ]
