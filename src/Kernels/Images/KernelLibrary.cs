using System.Globalization;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>The origins in which a <see cref="KernelLibrary"/> looks for kernels.</summary>
public sealed record KernelLibraryOptions
{
    /// <summary>
    /// Folder of images made ahead of time, which must have kernels for the GPU; "off" for none. If it is empty, kernels/ beside the program is used,
    /// if it has kernels for the GPU. Default: the environment variable TILLER_KERNEL_IMAGES.
    /// </summary>
    public string? ImageFolder { get; init; }

    /// <summary>
    /// Folder of the cache for images that NVRTC has made; "off" for none. Default: the environment variable TILLER_KERNEL_CACHE, or, if it is not
    /// set, tiller/kernels in XDG_CACHE_HOME or ~/.cache.
    /// </summary>
    public string? CacheFolder { get; init; }

    /// <summary>Whether NVRTC may compile at run time; default true.</summary>
    public bool UseRuntimeCompiler { get; init; } = true;

    internal string ProgramFolder { get; init; } = AppContext.BaseDirectory;

    internal KernelSources Sources { get; init; } = KernelSources.BuiltIn;

    internal KernelImages? BuiltIn { get; init; } = KernelImages.BuiltIn;

    internal Func<(int Major, int Minor, int[] Architectures)> Compiler { get; init; } =
        () => (CudaRuntimeCompiler.Version.Major, CudaRuntimeCompiler.Version.Minor, CudaRuntimeCompiler.Architectures);

    /// <summary>The folder of images, and whether the user named it; null for none.</summary>
    internal (string Folder, bool ByName)? ImagesAt()
    {
        string? named = ImageFolder ?? Environment.GetEnvironmentVariable(KernelLibrary.ImageFolderVariable);
        return named == "off" ? null
            : string.IsNullOrEmpty(named) ? (Path.GetFullPath(Path.Combine(ProgramFolder, "kernels")), false)
            : (Path.GetFullPath(named), true);
    }
}

/// <summary>
/// The kernels, loaded on a device. Each source file is one module, which is loaded when one of its kernels is first requested. Kernels come from a
/// folder of images made for the GPU ahead of time, from NVRTC with a cache on disk, or from the PTX in this assembly, in this order. All members may
/// be used by any thread.
/// </summary>
public sealed class KernelLibrary : IDisposable
{
    /// <summary>The environment variable that names a folder of images; "off" for none.</summary>
    public const string ImageFolderVariable = "TILLER_KERNEL_IMAGES";

    private readonly KernelSources _sources;
    private readonly KernelChoice _choice;
    private readonly KernelCompiler? _compiler;
    private readonly Dictionary<string, CudaModule> _modules = new(StringComparer.Ordinal);
    private readonly Dictionary<string, CudaKernel> _kernels = new(StringComparer.Ordinal);
    private readonly Lock _gate = new();
    private int _sharedCarveout = -1;
    private bool _disposed;

    /// <summary>Chooses the origin of the kernels. No kernel is loaded yet.</summary>
    /// <param name="context">The device's context.</param>
    /// <param name="options">The origins; null for the defaults.</param>
    /// <exception cref="CudaKernelImageException">
    /// No origin has kernels that the GPU can run. The message names the GPU's architecture and the available images.
    /// </exception>
    /// <exception cref="KernelImagesException">A folder of images is damaged.</exception>
    public KernelLibrary(PrimaryContext context, KernelLibraryOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(context);
        options ??= new KernelLibraryOptions();
        Context = context;
        _sources = options.Sources;
        _choice = KernelChoice.For(context.Device, context.DriverVersion, options);
        _compiler = _choice.Images is null
            ? new KernelCompiler(_sources, _choice.Architecture, _choice.Compiler, KernelCache.Open(options.CacheFolder))
            : null;
    }

    /// <summary>The context in which the kernels are loaded.</summary>
    public PrimaryContext Context { get; }

    /// <summary>The names of all kernels.</summary>
    public IReadOnlyCollection<string> Names => [.. _sources.Kernels.Keys];

    /// <summary><see cref="CudaKernel.SharedCarveout"/> of every kernel, including those that are loaded later.</summary>
    internal int SharedCarveout
    {
        get => _sharedCarveout;
        set
        {
            lock (_gate)
            {
                ObjectDisposedException.ThrowIf(_disposed, this);
                if (value == _sharedCarveout)
                {
                    return;
                }

                foreach (CudaKernel kernel in _kernels.Values)
                {
                    kernel.SharedCarveout = value;
                }

                _sharedCarveout = value;
            }
        }
    }

    /// <summary>The origin, why the better ones were not available, the use of the cache so far, and problems with the cache.</summary>
    public string Origin
    {
        get
        {
            if (_compiler is not { Cache: var cache })
            {
                return _choice.Origin;
            }

            string from = cache.Folder is { } folder
                ? string.Create(CultureInfo.InvariantCulture, $", {_compiler.Read} files from the cache {folder}")
                : ", no cache";
            return string.Create(CultureInfo.InvariantCulture, $"{_choice.Origin}{from}, {_compiler.Compiled} compiled")
                + (cache.Damaged > 0 ? string.Create(CultureInfo.InvariantCulture, $", {cache.Damaged} of them damaged in the cache") : "")
                + (cache.Problem is { } problem ? $"; {problem}" : "");
        }
    }

    /// <summary>The origin that <see cref="Origin"/> would name for a device, without opening the device.</summary>
    /// <exception cref="CudaKernelImageException">No origin has kernels that the GPU can run.</exception>
    /// <exception cref="KernelImagesException">A folder of images is damaged.</exception>
    public static string OriginFor(CudaDeviceInfo device, int driverVersion, KernelLibraryOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(device);
        return KernelChoice.For(device, driverVersion, options ?? new KernelLibraryOptions()).Origin;
    }

    /// <summary>
    /// Gets a kernel by its extern "C" name. It is valid until the library is disposed of. The first kernel of a file loads the file. This may
    /// compile it, and is not allowed while a stream is captured; see <see cref="LoadAll"/>.
    /// </summary>
    /// <exception cref="ArgumentException">No source has a kernel of this name.</exception>
    /// <exception cref="CudaCompilationException">NVRTC could not compile the source.</exception>
    /// <exception cref="CudaKernelImageException">The driver refused the image.</exception>
    /// <exception cref="KernelImagesException">The image is damaged.</exception>
    public CudaKernel Get(string kernelName)
    {
        ArgumentNullException.ThrowIfNull(kernelName);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (_kernels.TryGetValue(kernelName, out CudaKernel? kernel))
            {
                return kernel;
            }

            if (!_sources.Kernels.TryGetValue(kernelName, out string? file))
            {
                throw new ArgumentException($"There is no kernel {kernelName}: no source has the line TILLER_KERNEL({kernelName}).",
                    nameof(kernelName));
            }

            if (!_modules.ContainsKey(file))
            {
                Load(file, Image(file));
            }

            kernel = _modules[file].GetKernel(kernelName);
            if (_sharedCarveout != -1)
            {
                kernel.SharedCarveout = _sharedCarveout;
            }

            _kernels.Add(kernelName, kernel);
            return kernel;
        }
    }

    /// <summary>
    /// Loads all files that are not loaded yet, and compiles several at once if necessary. Then <see cref="Get"/> is fast and allowed during a
    /// capture.
    /// </summary>
    /// <exception cref="OperationCanceledException">Cancelled. Loaded files stay loaded.</exception>
    /// <exception cref="CudaException">The same as for <see cref="Get"/>.</exception>
    /// <exception cref="KernelImagesException">The same as for <see cref="Get"/>.</exception>
    public void LoadAll(CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            string[] files = [.. _sources.Files.Where(file => !_modules.ContainsKey(file))];
            byte[][] images = KernelCompiler.ForEach(files, Image, cancellationToken);
            for (int i = 0; i < files.Length; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                Load(files[i], images[i]);
            }

            foreach (string name in _sources.Kernels.Keys)
            {
                Get(name);
            }
        }
    }

    /// <summary>Unloads the kernels.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _disposed = true;
            foreach (CudaModule module in _modules.Values)
            {
                module.Dispose();
            }

            _modules.Clear();
            _kernels.Clear();
        }
    }

    private byte[] Image(string file) => _choice.Images is { } images ? images.From.Read(images.Of[file]) : _compiler!.Image(file).Content;

    private void Load(string file, byte[] image)
    {
        string name = _choice.Images is { } images ? images.Of[file].File : file;
        try
        {
            _modules.Add(file, new CudaModule(Context, image, name));
        }
        catch (CudaKernelImageException e)
        {
            throw new CudaKernelImageException(e.Architecture, $"{e.Fault} The kernels are: {_choice.Origin}.", e.Fault);
        }
    }
}
