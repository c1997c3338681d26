# Installs the tool, its manual, and what another program needs of the library: headers, archives, and how to find them
# with CMake (kvzip::codec, kvzip::kvzip) and with pkg-config (kvzip-codec, kvzip).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

if(TARGET kvzip)
  install(TARGETS kvzip)
  install(FILES man/kvzip.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES man/kvz.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
  install(FILES man/kvzip-pipeline.7 DESTINATION ${CMAKE_INSTALL_MANDIR}/man7)
endif()

install(DIRECTORY include/kvzip DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS kvzip_codec kvzip_lib EXPORT kvzip)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/kvzip)
install(EXPORT kvzip NAMESPACE kvzip:: FILE kvzipTargets.cmake DESTINATION ${package})
set(generated ${CMAKE_CURRENT_BINARY_DIR}/package)
configure_package_config_file(.cmake/kvzipConfig.cmake.in ${generated}/kvzipConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${generated}/kvzipConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${generated}/kvzipConfig.cmake ${generated}/kvzipConfigVersion.cmake DESTINATION ${package})

# The archives are static, so that who links them needs Requires.private too: pkg-config --static.
file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
foreach(name kvzip-codec kvzip)
  configure_file(.cmake/${name}.pc.in ${generated}/${name}.pc @ONLY)
  install(FILES ${generated}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()
