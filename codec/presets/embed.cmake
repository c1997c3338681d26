# Writes OUT, a source file that holds the text of each preset in FILES.
set(rows "")
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME_WLE)
  file(READ ${file} text)
  string(APPEND rows "    {\"${name}\", R\"preset(${text})preset\"},\n")
endforeach()
file(WRITE ${OUT} "#include \"kvzip/rules.hpp\"\nnamespace kvzip {\nnamespace {\nconstexpr PresetText kTexts[] = {\n${rows}};\n}\nstd::span<const PresetText> builtin_presets() { return kTexts; }\n}\n")
