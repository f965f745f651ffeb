using System.Runtime.InteropServices;
using System.Text;

namespace Tiller.Interop;

/// <summary>The result of an NVRTC compilation.</summary>
/// <param name="Image">A cubin or PTX, for <see cref="CudaModule"/>.</param>
/// <param name="Log">The compiler's warnings.</param>
public sealed record CudaCompilation(byte[] Image, string Log);

/// <summary>Compiles CUDA C++ at run time with NVRTC. Needs no context and no device.</summary>
public static unsafe class CudaRuntimeCompiler
{
    /// <summary>Version of NVRTC. A cache of its images must have it in the key.</summary>
    /// <exception cref="CudaLibraryMissingException">There is no NVRTC.</exception>
    public static (int Major, int Minor) Version
    {
        get
        {
            CudaLibraryResolver.Load(CudaLibraryResolver.Nvrtc);
            int major, minor;
            Check(NvrtcApi.nvrtcVersion(&major, &minor), nameof(NvrtcApi.nvrtcVersion), null);
            return (major, minor);
        }
    }

    /// <summary>Architectures that NVRTC can compile for, such as 90 for sm_90.</summary>
    /// <exception cref="CudaLibraryMissingException">There is no NVRTC.</exception>
    public static int[] Architectures
    {
        get
        {
            CudaLibraryResolver.Load(CudaLibraryResolver.Nvrtc);
            int count;
            Check(NvrtcApi.nvrtcGetNumSupportedArchs(&count), nameof(NvrtcApi.nvrtcGetNumSupportedArchs), null);
            int[] architectures = new int[count];
            fixed (int* p = architectures)
            {
                Check(NvrtcApi.nvrtcGetSupportedArchs(p), nameof(NvrtcApi.nvrtcGetSupportedArchs), null);
            }

            return architectures;
        }
    }

    /// <summary>Compiles one source.</summary>
    /// <param name="name">File name of the source, for messages and line information.</param>
    /// <param name="source">CUDA C++.</param>
    /// <param name="headers">Files that the source includes, by the name after #include.</param>
    /// <param name="architecture">sm_90 gives a cubin for that GPU; compute_90 gives PTX.</param>
    /// <param name="options">Further options, such as --use_fast_math.</param>
    /// <exception cref="CudaLibraryMissingException">There is no NVRTC.</exception>
    /// <exception cref="CudaCompilationException">
    /// The source has an error, NVRTC does not know the architecture, or a part of NVRTC is missing. The exception has the log.
    /// </exception>
    public static CudaCompilation Compile(string name, string source, IReadOnlyDictionary<string, string> headers, string architecture,
        params ReadOnlySpan<string> options)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(headers);
        ArgumentNullException.ThrowIfNull(architecture);
        CudaLibraryResolver.Load(CudaLibraryResolver.Nvrtc);
        using var texts = new NativeStrings();
        byte** headerTexts = texts.Array([.. headers.Values]), headerNames = texts.Array([.. headers.Keys]);
        byte** optionTexts = texts.Array([$"--gpu-architecture={architecture}", "--std=c++17", .. options]);
        nint program;
        Check(NvrtcApi.nvrtcCreateProgram(&program, texts.Add(source), texts.Add(name), headers.Count, headerTexts, headerNames),
            nameof(NvrtcApi.nvrtcCreateProgram), name);
        try
        {
            int result = NvrtcApi.nvrtcCompileProgram(program, options.Length + 2, optionTexts);
            if (result is not 0 and not OutOfMemory)
            {
                throw new CudaCompilationException(Fault(result, nameof(NvrtcApi.nvrtcCompileProgram), name), Log(program));
            }

            Check(result, nameof(NvrtcApi.nvrtcCompileProgram), name);
            return new CudaCompilation(Image(program, name, architecture.StartsWith("sm_", StringComparison.Ordinal)), Log(program));
        }
        finally
        {
            _ = NvrtcApi.nvrtcDestroyProgram(&program);
        }
    }

    private const int OutOfMemory = 1;

    private static byte[] Image(nint program, string name, bool cubin)
    {
        nuint size;
        Check(cubin ? NvrtcApi.nvrtcGetCUBINSize(program, &size) : NvrtcApi.nvrtcGetPTXSize(program, &size),
            cubin ? nameof(NvrtcApi.nvrtcGetCUBINSize) : nameof(NvrtcApi.nvrtcGetPTXSize), name);
        var image = new byte[size];
        fixed (byte* p = image)
        {
            Check(cubin ? NvrtcApi.nvrtcGetCUBIN(program, p) : NvrtcApi.nvrtcGetPTX(program, p),
                cubin ? nameof(NvrtcApi.nvrtcGetCUBIN) : nameof(NvrtcApi.nvrtcGetPTX), name);
        }

        return image;
    }

    private static string Log(nint program)
    {
        nuint size;
        Check(NvrtcApi.nvrtcGetProgramLogSize(program, &size), nameof(NvrtcApi.nvrtcGetProgramLogSize), null);
        var log = new byte[size];
        fixed (byte* p = log)
        {
            Check(NvrtcApi.nvrtcGetProgramLog(program, p), nameof(NvrtcApi.nvrtcGetProgramLog), null);
        }

        return Encoding.UTF8.GetString(log).TrimEnd('\0');
    }

    private static void Check(int result, string call, string? what)
    {
        if (result != 0)
        {
            CudaFault fault = Fault(result, call, what);
            throw result == OutOfMemory ? new CudaOutOfMemoryException(fault) : new CudaException(fault.ToString(), fault);
        }
    }

    // nvrtcResult (nvrtc.h).
    private static CudaFault Fault(int result, string call, string? what) => new(call, result, result switch
    {
        OutOfMemory => "NVRTC_ERROR_OUT_OF_MEMORY",
        2 => "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
        3 => "NVRTC_ERROR_INVALID_INPUT",
        4 => "NVRTC_ERROR_INVALID_PROGRAM",
        5 => "NVRTC_ERROR_INVALID_OPTION",
        6 => "NVRTC_ERROR_COMPILATION",
        7 => "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE", // libnvrtc-builtins is missing or of another version
        11 => "NVRTC_ERROR_INTERNAL_ERROR",
        _ => $"nvrtcResult {result}",
    }, what, null, null, null);

    /// <summary>Zero-terminated UTF-8 copies of strings, which live until this object is disposed of.</summary>
    private sealed class NativeStrings : IDisposable
    {
        private readonly List<nint> blocks = [];

        public byte* Add(string text)
        {
            nint copy = Marshal.StringToCoTaskMemUTF8(text);
            blocks.Add(copy);
            return (byte*)copy;
        }

        public byte** Array(string[] texts)
        {
            var array = (byte**)Marshal.AllocCoTaskMem(sizeof(byte*) * Math.Max(1, texts.Length));
            blocks.Add((nint)array);
            for (int i = 0; i < texts.Length; i++)
            {
                array[i] = Add(texts[i]);
            }

            return array;
        }

        public void Dispose()
        {
            foreach (nint block in blocks)
            {
                Marshal.FreeCoTaskMem(block);
            }
        }
    }
}
