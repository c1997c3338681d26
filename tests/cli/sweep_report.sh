# The page of `kvzip sweep --report`, opened in a browser: scripts run, headings sort, heat maps are drawn, nothing
# complains and nothing comes from elsewhere.
name='a<b onclick=x>.safetensors'
page=page.html
if [ -n "${KVZIP_TEST_PAGE:-}" ]; then
  cp "$KVZIP_TEST_PAGE" "$page"
else
  kvzip synth -o "$name" --layers 3 --heads 2 --head-dim 32 --tokens 300
  kvzip sweep "$name" --presets int8,int4,kivi-2,lossless --report "$page" >/dev/null
fi

# Nothing outside: no reference that a browser would follow. Names of XML namespaces are none.
if grep -oE '(src|href|action|srcset)=["'\''][^#"'\''][^"'\'']*|url\([^)]*\)|@import[^;]*' "$page" | grep .; then
  echo "the page refers to something else" >&2
  exit 1
fi
expect_in "$page" "default-src 'none'"
if grep -qF '<b onclick' "$page"; then
  echo "a name became markup" >&2
  exit 1
fi

# What a reader does, in a copy of the page: looks, sorts up and down with the mouse and the keyboard, chooses figures.
cp "$page" driven.html
cat >>driven.html <<'END'
<script>
(() => {
  const said = [];
  const check = (what, so) => { if (!so) said.push(what); };
  const table = document.querySelector('table.sortable');
  const heads = Array.from(table.tHead.rows[0].cells);
  const column = heads.findIndex((head) => head.textContent === 'bits');
  const cells = (at) => Array.from(table.tBodies[0].rows, (row) => row.cells[at].textContent);
  const ordered = (list, sign) => list.every((v, i) => i === 0 || sign * (Number(v) - Number(list[i - 1])) >= 0);
  const names = cells(0).join();
  check('rows', table.tBodies[0].rows.length >= 2);
  check('marked', cells(1).includes('*'));
  const button = heads[column].querySelector('button');
  check('headings are buttons', heads.every((head) => head.querySelector('button')));
  button.click();
  check('ascending', ordered(cells(column), 1) && heads[column].getAttribute('aria-sort') === 'ascending');
  button.focus();
  check('focus', document.activeElement === button);
  button.click();
  check('descending', ordered(cells(column), -1) && heads[column].getAttribute('aria-sort') === 'descending');
  check('order changed', cells(0).join() !== names);
  heads[0].querySelector('button').click();
  check('only one heading sorts', document.querySelectorAll('table.sortable')[0].querySelectorAll('[aria-sort]').length === 1);
  for (const place of document.querySelectorAll('.heat-maps')) {
    const maps = () => Array.from(place.querySelectorAll('table.heat'));
    check('two maps', maps().length === 2);
    check('settings', maps()[0].tBodies[0].rows.length >= 2);
    check('heads', maps()[1].tBodies[0].rows.length === 2);
    check('figures', /layer|settings|,/.test(maps()[0].querySelector('td').title) && place.querySelector('.scale'));
    const before = maps()[0].outerHTML;
    const what = place.querySelector('select');
    what.value = String(what.options.length - 1);
    what.dispatchEvent(new Event('change'));
    check('another figure', maps()[0].outerHTML !== before);
  }
  check('maps', document.querySelectorAll('.heat-maps').length >= 1);
  check('plots', document.querySelectorAll('figure svg.kvzip-plot').length >= 1);
  check('bars', document.querySelectorAll('.bar span').length >= 2);
  document.body.setAttribute('data-outcome', said.length ? 'failed: ' + said.join('; ') : 'all well');
})();
</script>
END

# browse FILE: the document after its scripts ran, in `dom`, and what the console says, in `console`.
browse() {
  local flags="--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --virtual-time-budget=5000"
  if ! timeout 120 chromium $flags --user-data-dir="$PWD/browser" --enable-logging=stderr --dump-dom "file://$PWD/$1" \
    >dom 2>console; then
    echo "the browser did not open the page:" >&2
    tail -n 5 console >&2
    exit 1
  fi
  if grep ':CONSOLE' console >&2; then exit 1; fi
}
browse driven.html
grep -o 'data-outcome="[^"]*"' dom >outcome || true
expect_in outcome 'data-outcome="all well"'
