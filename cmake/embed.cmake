# embed(symbol header file out.c): a file as a C array that ends with 0. Made when CMake runs, which
# it does again when the file changes.
function(embed symbol header file out)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  file(CONFIGURE OUTPUT ${out} CONTENT
       "#include \"${header}\"\n\nconst char ${symbol}[] = {\n@bytes@0x00};\n" @ONLY)
endfunction()
