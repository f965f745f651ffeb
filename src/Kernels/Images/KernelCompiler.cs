using System.Runtime.ExceptionServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>Compiles sources by NVRTC for one architecture, with the cache. Only this class determines the names and contents of entries.</summary>
/// <param name="sources">The sources.</param>
/// <param name="architecture">The architecture, <see cref="KernelArchitecture.Native"/> of a GPU.</param>
/// <param name="version">The name and version of NVRTC.</param>
/// <param name="cache">The cache.</param>
internal sealed class KernelCompiler(KernelSources sources, KernelArchitecture architecture, string version, KernelCache cache)
{
    // Without --use_fast_math, which would change the results. Line information is for profilers and costs nothing at run time.
    private static readonly string[] s_options = ["--generate-line-info"];

    private int _compiled;
    private int _read;

    public KernelCache Cache => cache;

    /// <summary>Number of sources compiled so far.</summary>
    public int Compiled => _compiled;

    /// <summary>Number of images read from the cache so far.</summary>
    public int Read => _read;

    /// <summary>The name of a source's entry, such as norm.sm_90a.SHA-256.</summary>
    public string EntryOf(string file) =>
        $"{Path.GetFileNameWithoutExtension(file)}.{architecture}.{sources.KeyOf(file, [architecture.ToString(), version, .. s_options])}";

    /// <summary>
    /// The image of a source, and whether it was compiled now. A compiled image is also written to the cache, if possible. May be called by any
    /// thread.
    /// </summary>
    /// <exception cref="CudaCompilationException">NVRTC could not compile the source.</exception>
    public (byte[] Content, bool Compiled) Image(string file)
    {
        string entry = EntryOf(file);
        if (cache.Read(entry) is { } kept)
        {
            Interlocked.Increment(ref _read);
            return (kept, false);
        }

        byte[] image = CudaRuntimeCompiler.Compile(file, sources.Text(file), sources.Headers, architecture.ToString(), s_options).Image;
        Interlocked.Increment(ref _compiled);
        cache.Write(entry, image);
        return (image, true);
    }

    /// <summary>Calls a function for every file, several at once.</summary>
    /// <returns>The results, in the order of the files.</returns>
    /// <exception cref="TillerException">A call threw it. Other calls may not have been made.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static T[] ForEach<T>(IReadOnlyList<string> files, Func<string, T> make, CancellationToken cancellationToken)
    {
        var made = new T[files.Count];
        ExceptionDispatchInfo? error = null;
        Parallel.For(0, files.Count, new ParallelOptions
        {
            MaxDegreeOfParallelism = Environment.ProcessorCount,
            CancellationToken = cancellationToken,
        }, (i, loop) =>
        {
            try
            {
                made[i] = make(files[i]);
            }
            catch (TillerException e)
            {
                Interlocked.CompareExchange(ref error, ExceptionDispatchInfo.Capture(e), null);
                loop.Stop();
            }
        });
        error?.Throw();
        return made;
    }
}
