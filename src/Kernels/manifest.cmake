# Writes FOLDER/kernels.manifest for the images named in the file IMAGES and removes all others. KernelImages.cs reads it:
#   tiller kernels 1
#   sources SHA-256 of the lines "SHA-256, two spaces, name" of every .cu and .cuh of SOURCES, by name
#   SHA-256 compiler file                                  for each image
cmake_minimum_required(VERSION 3.21)
file(GLOB sources RELATIVE ${SOURCES} ${SOURCES}/*.cu ${SOURCES}/*.cuh)
list(SORT sources COMPARE STRING)
set(lines "")
foreach(source ${sources})
    file(SHA256 ${SOURCES}/${source} hash)
    string(APPEND lines "${hash}  ${source}\n")
endforeach()
string(SHA256 sources_hash "${lines}")

set(manifest "tiller kernels 1\nsources ${sources_hash}\n")
file(STRINGS ${IMAGES} images)
foreach(image ${images})
    file(SHA256 ${FOLDER}/${image} hash)
    if(image MATCHES "\\.cubin$")
        set(compiler ${CUBIN_COMPILER})
    else()
        set(compiler ${PTX_COMPILER})
    endif()
    string(APPEND manifest "${hash} ${compiler} ${image}\n")
endforeach()

file(GLOB present RELATIVE ${FOLDER} ${FOLDER}/*.ptx ${FOLDER}/*.cubin)
foreach(image ${present})
    if(NOT image IN_LIST images)
        file(REMOVE ${FOLDER}/${image})
    endif()
endforeach()
file(WRITE ${FOLDER}/kernels.manifest.new "${manifest}")
file(RENAME ${FOLDER}/kernels.manifest.new ${FOLDER}/kernels.manifest)
