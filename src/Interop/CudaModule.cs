using System.Runtime.CompilerServices;
using System.Text;

namespace Tiller.Interop;

/// <summary>A loaded kernel image: a cubin, or PTX that the driver compiles.</summary>
public sealed unsafe class CudaModule : CudaHandle
{
    /// <summary>Loads an image.</summary>
    /// <param name="context">The context to load the image into.</param>
    /// <param name="image">The image. PTX is text.</param>
    /// <param name="name">Name for error messages.</param>
    /// <exception cref="CudaKernelImageException">The image does not fit this GPU or driver.</exception>
    public CudaModule(PrimaryContext context, ReadOnlySpan<byte> image, string name)
        : base(context)
    {
        Name = name;
        context.Enter();
        // The driver reads PTX up to a zero byte.
        byte[] terminated = [.. image, 0];
        nint module;
        fixed (byte* p = terminated)
        {
            context.Check(DriverApi.cuModuleLoadDataEx(&module, p, 0, null, null), nameof(DriverApi.cuModuleLoadDataEx), name, image.Length);
        }

        Own(module);
    }

    /// <summary>Name for error messages.</summary>
    public string Name { get; }

    /// <summary>Finds a kernel by its extern "C" name.</summary>
    /// <exception cref="CudaException">There is no kernel of that name.</exception>
    public CudaKernel GetKernel(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        Context.Enter();
        nint function;
        fixed (byte* p = Encoding.UTF8.GetBytes(name + "\0"))
        {
            Context.Check(DriverApi.cuModuleGetFunction(&function, Native, p), nameof(DriverApi.cuModuleGetFunction), $"{name} of {Name}");
        }

        return new CudaKernel(this, function, name);
    }

    private protected override bool Release(nint native) => Context.Released(DriverApi.cuModuleUnload(native), nameof(DriverApi.cuModuleUnload));
}

/// <summary>The shape of a launch.</summary>
/// <param name="GridX">Blocks along x.</param>
/// <param name="GridY">Blocks along y.</param>
/// <param name="GridZ">Blocks along z.</param>
/// <param name="BlockX">Threads of a block along x.</param>
/// <param name="BlockY">Threads of a block along y.</param>
/// <param name="BlockZ">Threads of a block along z.</param>
/// <param name="SharedInBytes">Dynamic shared memory of a block.</param>
/// <param name="Programmatic">
/// Whether the kernel may start before the previous kernel in the stream has ended; the kernel itself then waits for it.
/// </param>
public readonly record struct CudaLaunch(
    int GridX, int GridY, int GridZ, int BlockX, int BlockY = 1, int BlockZ = 1, int SharedInBytes = 0, bool Programmatic = false)
{
    /// <summary>Creates the shape of a launch along x.</summary>
    public CudaLaunch(int grid, int block)
        : this(grid, 1, 1, block)
    {
    }
}

/// <summary>A kernel of a module, valid as long as the module is loaded. Launching allocates nothing.</summary>
public sealed unsafe class CudaKernel
{
    private readonly CudaModule module;
    private readonly nint function;

    internal CudaKernel(CudaModule module, nint function, string name)
    {
        this.module = module;
        this.function = function;
        Name = name;
    }

    /// <summary>The kernel's name.</summary>
    public string Name { get; }

    /// <summary>Maximum size in bytes of a launch's dynamic shared memory. For more than 48 KiB it must be set first.</summary>
    public int MaxDynamicSharedInBytes
    {
        get => GetAttribute(CUfunction_attribute.MaxDynamicSharedSizeBytes);
        set
        {
            Enter();
            module.Context.Check(DriverApi.cuFuncSetAttribute(function, CUfunction_attribute.MaxDynamicSharedSizeBytes, value),
                nameof(DriverApi.cuFuncSetAttribute), Name, value);
        }
    }

    /// <summary>
    /// Preferred size of the shared memory, in percent of a multiprocessor's maximum; the rest is L1 cache. -1 leaves the choice to the driver. A
    /// block always gets the shared memory that it needs.
    /// </summary>
    public int SharedCarveout
    {
        get => GetAttribute(CUfunction_attribute.PreferredSharedMemoryCarveout);
        set
        {
            Enter();
            module.Context.Check(DriverApi.cuFuncSetAttribute(function, CUfunction_attribute.PreferredSharedMemoryCarveout, value),
                nameof(DriverApi.cuFuncSetAttribute), Name, value);
        }
    }

    /// <summary>Reads a property of the kernel, such as its registers or local memory.</summary>
    public int GetAttribute(CUfunction_attribute attribute)
    {
        Enter();
        int value;
        module.Context.Check(DriverApi.cuFuncGetAttribute(&value, attribute, function), nameof(DriverApi.cuFuncGetAttribute), Name);
        return value;
    }

    /// <summary>Number of blocks of this size that one multiprocessor holds at a time.</summary>
    public int MaxBlocksPerMultiprocessor(int blockSize, int sharedInBytes = 0)
    {
        Enter();
        int blocks;
        module.Context.Check(DriverApi.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, blockSize, (nuint)sharedInBytes),
            nameof(DriverApi.cuOccupancyMaxActiveBlocksPerMultiprocessor), Name);
        return blocks;
    }

    /// <summary>
    /// Launches a kernel whose only parameter is a struct. The struct must have the same layout as in the kernel; device pointers are <c>nint</c>
    /// fields.
    /// </summary>
    public void Launch<TParameters>(in CudaLaunch shape, CudaStream stream, in TParameters parameters)
        where TParameters : unmanaged
    {
        fixed (TParameters* p = &parameters)
        {
            void* one = p;
            Launch(shape, stream, &one);
        }
    }

    /// <summary>Launches a kernel with a pointer to each of its parameters. The values are read before this returns.</summary>
    /// <exception cref="CudaException">The shape is not possible, or an earlier call's fault is reported now.</exception>
    public void Launch(in CudaLaunch shape, CudaStream stream, void** parameters)
    {
        ArgumentNullException.ThrowIfNull(stream);
        Enter();
        Unsafe.SkipInit(out CUlaunchAttribute attribute);
        attribute.id = CUlaunchAttribute.ProgrammaticStreamSerialization;
        attribute.programmaticStreamSerializationAllowed = 1;
        CUlaunchConfig config = default;
        config.gridDimX = (uint)shape.GridX;
        config.gridDimY = (uint)shape.GridY;
        config.gridDimZ = (uint)shape.GridZ;
        config.blockDimX = (uint)shape.BlockX;
        config.blockDimY = (uint)shape.BlockY;
        config.blockDimZ = (uint)shape.BlockZ;
        config.sharedMemBytes = (uint)shape.SharedInBytes;
        config.hStream = stream.Native;
        if (shape.Programmatic)
        {
            config.attrs = &attribute;
            config.numAttrs = 1;
        }

        // This must come before the launch, because the first call after a launch reports the kernel's fault.
        bool wait = module.Context.SynchronizeAfterLaunch && !stream.IsCapturing;
        CUresult result = DriverApi.cuLaunchKernelEx(&config, function, parameters, null);
        if (result != CUresult.CUDA_SUCCESS)
        {
            throw module.Context.Fail(result, nameof(DriverApi.cuLaunchKernelEx), $"{Name}, {shape}", null);
        }

        if (wait)
        {
            module.Context.Check(DriverApi.cuStreamSynchronize(stream.Native), nameof(DriverApi.cuStreamSynchronize), Name);
        }
    }

    private void Enter()
    {
        _ = module.Native; // throws if the module has been unloaded
        module.Context.Enter();
    }
}
