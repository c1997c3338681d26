# Writes OUT, a source file in which FUNCTION gives a ROW {name, text} for each of FILES; HEADER declares both.
set(rows "")
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME_WLE)
  file(READ ${file} text)
  string(APPEND rows "    {\"${name}\", R\"file(${text})file\"},\n")
endforeach()
file(WRITE ${OUT} "#include \"${HEADER}\"\nnamespace {\nconstexpr ${ROW} kFiles[] = {\n${rows}};\n}\nstd::span<const ${ROW}> ${FUNCTION}() { return kFiles; }\n")
