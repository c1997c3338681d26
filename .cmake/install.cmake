# Installs the tool, its manual, and what another program needs of the library: headers, archives, libkvzip.so, and how to
# find them with CMake (kvzip::codec, kvzip::kvzip, kvzip::c) and with pkg-config (kvzip-codec, kvzip, kvzip-c). Components
# (tool, library, dev, plugin, python) are what .cmake/package.cmake makes packages of.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME tool)
if(TARGET kvzip)
  install(TARGETS kvzip)
  install(FILES man/kvzip.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES man/kvz.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
  install(FILES man/kvzip-pipeline.7 DESTINATION ${CMAKE_INSTALL_MANDIR}/man7)
  # The tool writes its completions itself, from its own options.
  foreach(completion bash:bash-completion/completions/kvzip zsh:zsh/vendor-completions/_kvzip
      fish:fish/vendor_completions.d/kvzip.fish)
    string(REGEX MATCH "([a-z]+):(.*)/(.*)" completion ${completion})
    set(made ${CMAKE_CURRENT_BINARY_DIR}/completions/${CMAKE_MATCH_3})
    install(CODE "file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/completions)
      execute_process(COMMAND $<TARGET_FILE:kvzip> completion ${CMAKE_MATCH_1} OUTPUT_FILE ${made} COMMAND_ERROR_IS_FATAL ANY)")
    install(FILES ${made} DESTINATION ${CMAKE_INSTALL_DATADIR}/${CMAKE_MATCH_2})
  endforeach()
endif()

set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME dev)
install(DIRECTORY include/kvzip DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS kvzip_codec kvzip_lib EXPORT kvzip)
if(KVZIP_SHARED)
  # A set of its own, so that C programs need none of the packages that the archives need.
  install(TARGETS kvzip_shared EXPORT kvzip-c LIBRARY COMPONENT library NAMELINK_COMPONENT dev)
  install(TARGETS kvzip_h5z LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/hdf5/plugin COMPONENT plugin)
  # Where it is asked for: `cmake --install BUILD --component python`.
  install(DIRECTORY python/kvzip DESTINATION lib/python3/dist-packages COMPONENT python EXCLUDE_FROM_ALL
    FILES_MATCHING PATTERN *.py PATTERN __pycache__ EXCLUDE)
  install(EXPORT kvzip-c NAMESPACE kvzip:: FILE kvzipCTargets.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/kvzip)
  install(FILES man/kvzip.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
endif()
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/kvzip)
install(EXPORT kvzip NAMESPACE kvzip:: FILE kvzipTargets.cmake DESTINATION ${package})
set(generated ${CMAKE_CURRENT_BINARY_DIR}/package)
configure_package_config_file(.cmake/kvzipConfig.cmake.in ${generated}/kvzipConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${generated}/kvzipConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${generated}/kvzipConfig.cmake ${generated}/kvzipConfigVersion.cmake DESTINATION ${package})

# The archives are static, so that who links them needs Requires.private too: pkg-config --static.
file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
set(pkg_config kvzip-codec kvzip)
if(KVZIP_SHARED)
  list(APPEND pkg_config kvzip-c)
endif()
foreach(name IN LISTS pkg_config)
  configure_file(.cmake/${name}.pc.in ${generated}/${name}.pc @ONLY)
  install(FILES ${generated}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
