using System.Runtime.CompilerServices;
using System.Text;

namespace Tiller.Interop;

/// <summary>A loaded kernel image: a cubin, or PTX that the driver compiles.</summary>
public sealed unsafe class CudaModule : CudaHandle
{
    /// <summary>Loads an image.</summary>
    /// <param name="context">Its context.</param>
    /// <param name="image">The image; PTX is text.</param>
    /// <param name="name">What errors call it.</param>
    /// <exception cref="CudaKernelImageException">The image does not fit this GPU or driver.</exception>
    public CudaModule(PrimaryContext context, ReadOnlySpan<byte> image, string name)
        : base(context)
    {
        Name = name;
        context.Enter();
        // PTX is read up to a zero byte.
        byte[] terminated = [.. image, 0];
        nint module;
        fixed (byte* p = terminated)
        {
            context.Check(DriverApi.cuModuleLoadDataEx(&module, p, 0, null, null), nameof(DriverApi.cuModuleLoadDataEx), name, image.Length);
        }

        Own(module);
    }

    /// <summary>What errors call it.</summary>
    public string Name { get; }

    /// <summary>Finds a kernel by its extern "C" name.</summary>
    /// <exception cref="CudaException">There is none of that name.</exception>
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
/// <param name="Programmatic">Whether the kernel may start before the one ahead of it in the stream has ended (it waits by itself).</param>
public readonly record struct CudaLaunch(
    int GridX, int GridY, int GridZ, int BlockX, int BlockY = 1, int BlockZ = 1, int SharedInBytes = 0, bool Programmatic = false)
{
    /// <summary>A launch along x.</summary>
    public CudaLaunch(int grid, int block)
        : this(grid, 1, 1, block)
    {
    }
}

/// <summary>A kernel of a module, valid while the module is. Launching allocates nothing.</summary>
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

    /// <summary>Bytes of dynamic shared memory that a launch may ask for; above 48 KiB it must be set first.</summary>
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
    /// Shared memory in percent of the most that a multiprocessor can have, the rest being first-level cache; -1 leaves it to the driver. A wish: what a block needs
    /// is always there.
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

    /// <summary>Registers, local memory, and the like.</summary>
    public int GetAttribute(CUfunction_attribute attribute)
    {
        Enter();
        int value;
        module.Context.Check(DriverApi.cuFuncGetAttribute(&value, attribute, function), nameof(DriverApi.cuFuncGetAttribute), Name);
        return value;
    }

    /// <summary>Blocks of this size that one multiprocessor holds at a time.</summary>
    public int MaxBlocksPerMultiprocessor(int blockSize, int sharedInBytes = 0)
    {
        Enter();
        int blocks;
        module.Context.Check(DriverApi.cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, blockSize, (nuint)sharedInBytes),
            nameof(DriverApi.cuOccupancyMaxActiveBlocksPerMultiprocessor), Name);
        return blocks;
    }

    /// <summary>Launches a kernel whose only parameter is a struct, laid out as the kernel's. Device pointers are <c>nint</c> fields.</summary>
    public void Launch<TParameters>(in CudaLaunch shape, CudaStream stream, in TParameters parameters)
        where TParameters : unmanaged
    {
        fixed (TParameters* p = &parameters)
        {
            void* one = p;
            Launch(shape, stream, &one);
        }
    }

    /// <summary>Launches a kernel with a pointer to each of its parameters, as many as it has; the values are read before this returns.</summary>
    /// <exception cref="CudaException">The shape is impossible, or an earlier call's fault is reported now.</exception>
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

        // Asked before the launch: the first call after it reports the kernel's fault.
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
        _ = module.Native; // throws once the module is unloaded
        module.Context.Enter();
    }
}
