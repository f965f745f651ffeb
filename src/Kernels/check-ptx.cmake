# Refuses PTX that could not run as its source means: local memory that the source does not announce ("// local memory: why" at a
# line's beginning), or functions that nothing defines.
#   cmake -DIMAGE=x.sm_80.ptx -DSOURCE=x.cu -P check-ptx.cmake          (a cubin has nothing to read and passes)
cmake_minimum_required(VERSION 3.21)
if(NOT IMAGE MATCHES "\\.ptx$")
    return()
endif()

set(problems "")
file(STRINGS ${IMAGE} local REGEX "(^|[ \t])\\.local[ \t]|(ld|st)[.a-z]*\\.local")
file(STRINGS ${SOURCE} announced REGEX "^// local memory: [^ ]")
if(local AND NOT announced)
    string(APPEND problems "\n  it uses local memory, and the source has no line '// local memory: why'")
endif()

# Two lines in a function's declaration: ".extern .func (.param .b32 r) name" and its parameters.
file(STRINGS ${IMAGE} undefined REGEX "\\.extern[ \t]+\\.func")
if(undefined)
    string(APPEND problems "\n  it calls functions that are not defined: ${undefined}")
endif()

if(problems)
    file(REMOVE ${IMAGE}) # so that the next build does not take it for done
    message(FATAL_ERROR "${IMAGE}:${problems}")
endif()
