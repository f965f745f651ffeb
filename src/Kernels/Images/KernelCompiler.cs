using System.Runtime.ExceptionServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>NVRTC by way of the cache, for one architecture: the one place where an entry gets its name and its content.</summary>
/// <param name="sources">What is compiled.</param>
/// <param name="architecture">What for: <see cref="KernelArchitecture.Native"/> of a GPU.</param>
/// <param name="version">NVRTC with its version.</param>
/// <param name="cache">Where images are kept.</param>
internal sealed class KernelCompiler(KernelSources sources, KernelArchitecture architecture, string version, KernelCache cache)
{
    // No --use_fast_math: it would change the results. Line information is for profilers and costs nothing at run time.
    private static readonly string[] s_options = ["--generate-line-info"];

    private int _compiled;
    private int _read;

    public KernelCache Cache => cache;

    /// <summary>Files compiled so far.</summary>
    public int Compiled => _compiled;

    /// <summary>Files taken from the cache so far.</summary>
    public int Read => _read;

    /// <summary>The cache's entry of a source: norm.sm_90a.SHA-256.</summary>
    public string EntryOf(string file) =>
        $"{Path.GetFileNameWithoutExtension(file)}.{architecture}.{sources.KeyOf(file, [architecture.ToString(), version, .. s_options])}";

    /// <summary>
    /// The image of a source, and whether it was compiled now; what was is in the cache then, if that can be written. From any thread.
    /// </summary>
    /// <exception cref="CudaCompilationException">NVRTC refused the source.</exception>
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

    /// <summary>Does something with every file, several at once.</summary>
    /// <returns>What came of each, in their order.</returns>
    /// <exception cref="TillerException">What one of them threw; the others may not have been begun.</exception>
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
