# Refuses an image that could not run as its source means: local memory (spills, arrays indexed by variables) that the source does not announce
# in a line "// local memory: why", or calls of functions that nothing defines.
#   cmake -DIMAGE=x.sm_80.ptx -DSOURCE=x.cu -P check-image.cmake
#   cmake -DIMAGE=x.sm_80.ptx -DSOURCE=x.cu -DPTXAS=ptxas -P check-image.cmake                 what NVIDIA's assembler makes of it, too
#   cmake -DIMAGE=x.sm_80.cubin -DSOURCE=x.cu -DCUOBJDUMP=cuobjdump -P check-image.cmake       without CUOBJDUMP, a cubin passes
cmake_minimum_required(VERSION 3.21)
set(problems "")
file(STRINGS ${SOURCE} announced REGEX "^// local memory: [^ ]")

# What NVIDIA's tools say of each kernel, in lines that begin with its name: "name: … bytes stack frame, …" or "name: REG:… STACK:… LOCAL:…".
set(kernels "")
if(IMAGE MATCHES "\\.ptx$")
    file(STRINGS ${IMAGE} local REGEX "(^|[ \t])\\.local[ \t]|(ld|st)[.a-z]*\\.local")
    if(local AND NOT announced)
        string(APPEND problems "\n  it uses local memory, and the source has no line '// local memory: why'")
    endif()
    # Two lines in a function's declaration: ".extern .func (.param .b32 r) name" and its parameters.
    file(STRINGS ${IMAGE} undefined REGEX "\\.extern[ \t]+\\.func")
    if(undefined)
        string(APPEND problems "\n  it calls functions that are not defined: ${undefined}")
    endif()
    if(PTXAS)
        string(REGEX MATCH "\\.(sm_[0-9]+a?)\\." target ${IMAGE})
        execute_process(COMMAND ${PTXAS} -arch=${CMAKE_MATCH_1} -v ${IMAGE} -o ${IMAGE}.cubin RESULT_VARIABLE failed OUTPUT_VARIABLE says ERROR_VARIABLE says)
        file(REMOVE ${IMAGE}.cubin)
        if(failed)
            string(APPEND problems "\n  ptxas refuses it: ${says}")
        endif()
        string(REGEX MATCHALL "Function properties for [^\n]*\n[^\n]*bytes stack frame[^\n]*" kernels "${says}")
        list(FILTER kernels EXCLUDE REGEX "\n *0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads")
    endif()
elseif(CUOBJDUMP)
    execute_process(COMMAND ${CUOBJDUMP} -res-usage ${IMAGE} RESULT_VARIABLE failed OUTPUT_VARIABLE says ERROR_VARIABLE says)
    if(failed)
        string(APPEND problems "\n  cuobjdump cannot read it: ${says}")
    endif()
    string(REGEX MATCHALL "Function [^\n]*\n[^\n]*STACK:[^\n]*" kernels "${says}")
    list(FILTER kernels EXCLUDE REGEX "STACK:0 .*LOCAL:0 ")
endif()
if(kernels AND NOT announced)
    string(REGEX REPLACE "\n *" " " kernels "${kernels}")
    string(REPLACE ";" "\n    " kernels "${kernels}")
    string(APPEND problems "\n  registers spill, and the source has no line '// local memory: why':\n    ${kernels}")
endif()

if(problems)
    file(REMOVE ${IMAGE}) # so that the next build does not take it for done
    message(FATAL_ERROR "${IMAGE}:${problems}")
endif()
