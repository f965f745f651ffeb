using System.Globalization;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>Where a <see cref="KernelLibrary"/> looks for kernels.</summary>
public sealed record KernelLibraryOptions
{
    /// <summary>
    /// Folder of images made ahead of time, which then must fit; "off" for none; empty for kernels/ beside the program, if it fits. Default:
    /// TILLER_KERNEL_IMAGES.
    /// </summary>
    public string? ImageFolder { get; init; }

    /// <summary>
    /// Folder that keeps what NVRTC made; "off" for none. Default: TILLER_KERNEL_CACHE, else tiller/kernels in XDG_CACHE_HOME or ~/.cache.
    /// </summary>
    public string? CacheFolder { get; init; }

    /// <summary>Whether NVRTC may compile at run time. Default true.</summary>
    public bool UseRuntimeCompiler { get; init; } = true;

    internal string ProgramFolder { get; init; } = AppContext.BaseDirectory;

    internal KernelSources Sources { get; init; } = KernelSources.BuiltIn;

    internal KernelImages? BuiltIn { get; init; } = KernelImages.BuiltIn;

    internal Func<(int Major, int Minor, int[] Architectures)> Compiler { get; init; } =
        () => (CudaRuntimeCompiler.Version.Major, CudaRuntimeCompiler.Version.Minor, CudaRuntimeCompiler.Architectures);

    /// <summary>The folder of images to look in, and whether it was asked for by name; null for none.</summary>
    internal (string Folder, bool ByName)? ImagesAt()
    {
        string? named = ImageFolder ?? Environment.GetEnvironmentVariable(KernelLibrary.ImageFolderVariable);
        return named == "off" ? null
            : string.IsNullOrEmpty(named) ? (Path.GetFullPath(Path.Combine(ProgramFolder, "kernels")), false)
            : (Path.GetFullPath(named), true);
    }
}

/// <summary>
/// The kernels, loaded on a device: one module for each source file, when one of its kernels is first asked for. Taken, in this order, from a folder
/// of images made for the GPU ahead of time, from NVRTC by way of an on-disk cache, or from the PTX in this assembly. May be used from any thread.
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

    /// <summary>Chooses where the kernels come from; loads nothing yet.</summary>
    /// <param name="context">The device.</param>
    /// <param name="options">Where to look; null for the defaults.</param>
    /// <exception cref="CudaKernelImageException">
    /// There is nothing that the GPU can run; the message names its architecture and what there is.
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

    /// <summary>Where the kernels are loaded.</summary>
    public PrimaryContext Context { get; }

    /// <summary>Every kernel there is.</summary>
    public IReadOnlyCollection<string> Names => [.. _sources.Kernels.Keys];

    /// <summary>Of every kernel, loaded or to be loaded: <see cref="CudaKernel.SharedCarveout"/>.</summary>
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

    /// <summary>Which kind of image was taken and why nothing better, what came from the cache so far, and what is wrong with it.</summary>
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

    /// <summary>What <see cref="Origin"/> would begin with on a device, without opening it.</summary>
    /// <exception cref="CudaKernelImageException">There is nothing that the GPU can run.</exception>
    /// <exception cref="KernelImagesException">A folder of images is damaged.</exception>
    public static string OriginFor(CudaDeviceInfo device, int driverVersion, KernelLibraryOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(device);
        return KernelChoice.For(device, driverVersion, options ?? new KernelLibraryOptions()).Origin;
    }

    /// <summary>
    /// A kernel by its extern "C" name, valid until this is disposed. The first of a file loads the file, which may compile it and is forbidden while
    /// a stream is captured: see <see cref="LoadAll"/>.
    /// </summary>
    /// <exception cref="ArgumentException">No source has a kernel of that name.</exception>
    /// <exception cref="CudaCompilationException">NVRTC refused the source.</exception>
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
    /// Loads every file that is not loaded, compiling several at once, so that <see cref="Get"/> is quick and allowed in a capture.
    /// </summary>
    /// <exception cref="OperationCanceledException">Cancelled; what was loaded stays.</exception>
    /// <exception cref="CudaException">As <see cref="Get"/>.</exception>
    /// <exception cref="KernelImagesException">As <see cref="Get"/>.</exception>
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
            throw new CudaKernelImageException(e.Architecture, $"{e.Fault} It was to load {_choice.Origin}.", e.Fault);
        }
    }
}
