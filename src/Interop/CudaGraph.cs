namespace Tiller.Interop;

/// <summary>The work that a stream has captured. <see cref="Instantiate"/> makes it runnable.</summary>
public sealed unsafe class CudaGraph : CudaHandle
{
    internal CudaGraph(PrimaryContext context, nint graph)
        : base(context)
    {
        Own(graph);
    }

    /// <summary>Number of kernels, copies and fills in the graph, for tests.</summary>
    internal int NodeCount
    {
        get
        {
            Context.Enter();
            nuint count = 0;
            Context.Check(DriverApi.cuGraphGetNodes(Native, null, &count), nameof(DriverApi.cuGraphGetNodes));
            return (int)count;
        }
    }

    /// <summary>Creates a runnable copy.</summary>
    public CudaGraphExec Instantiate()
    {
        Context.Enter();
        nint exec;
        Context.Check(DriverApi.cuGraphInstantiateWithFlags(&exec, Native, 0), nameof(DriverApi.cuGraphInstantiateWithFlags));
        return new CudaGraphExec(Context, exec);
    }

    private protected override bool Release(nint native) => Context.Released(DriverApi.cuGraphDestroy(native), nameof(DriverApi.cuGraphDestroy));
}

/// <summary>A runnable graph, whose work is started by one launch.</summary>
public sealed unsafe class CudaGraphExec : CudaHandle
{
    internal CudaGraphExec(PrimaryContext context, nint exec)
        : base(context)
    {
        Own(exec);
    }

    /// <summary>Runs the graph in a stream. Allocates nothing.</summary>
    public void Launch(CudaStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        Context.Enter();
        Context.Check(DriverApi.cuGraphLaunch(Native, stream.Native), nameof(DriverApi.cuGraphLaunch));
    }

    private protected override bool Release(nint native) =>
        Context.Released(DriverApi.cuGraphExecDestroy(native), nameof(DriverApi.cuGraphExecDestroy));
}
