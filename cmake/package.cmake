# `cpack -G DEB`: one package. What it needs of Debian is read from the files by dpkg-shlibdeps; our
# own oneDNN lies in a private folder and is part of the package.
set(CPACK_PACKAGE_NAME pquant)
set(CPACK_PACKAGE_VENDOR "the pquant developers")
set(CPACK_PACKAGE_CONTACT "the pquant developers <pquant@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "partial post-training quantization of object detectors")
set(CPACK_PACKAGE_DESCRIPTION "pquant takes a trained object detector and gives back the fastest version
of it that is still accurate: INT8 wherever that is faster and the mean
average precision survives, full precision in the few layers that need it.
The package has the command, the library with its headers, manual pages
and completions.")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_SOURCE_DIR}/deps/onednn/lib)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "pkg-config, cmake")
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)
include(CPack)
