using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// Feedback laws on the rows of a dual batch. Each row has its own law. Kernels in steer.cu. Directions (<see cref="DeviceLayerLaw.V"/>,
/// <see cref="DeviceLayerLaw.W"/>) must be 16-byte aligned.
/// </summary>
internal sealed class SteerKernels
{
    private readonly CudaKernel _sense;
    private readonly CudaKernel _senseNorm;
    private readonly CudaKernel _act;

    /// <summary>Finds the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public SteerKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _sense = kernel("tillerSteerSense");
        _senseNorm = kernel("tillerSteerSenseNorm");
        _act = kernel("tillerSteerAct");
    }

    /// <summary>
    /// Computes the errors of the block's sensors into <see cref="DeviceSteering.Errors"/>, and their tangents into
    /// <see cref="DeviceSteering.TangentErrors"/>, which are cleared at the law's first stage. If the law has terms at this block, also computes |x|,
    /// and |u| before and after the bound.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">The rows, with their laws.</param>
    /// <param name="x">Inputs of the block // (values + tangents, D).</param>
    /// <param name="layer">Index k of the block; or L + k for the stage at the block's input. Laws without this stage ignore the call.</param>
    public void Sense(CudaStream stream, in RowTable rows, Floats x, int layer) => Launch(_sense, stream, rows, x, layer);

    /// <summary><see cref="Sense"/> and <see cref="NormKernels.Forward"/> of the same rows in one launch, with the same bits.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">The rows, with their laws.</param>
    /// <param name="x">Inputs of the block // (values + tangents, D).</param>
    /// <param name="layer">Index k of the block.</param>
    /// <param name="norm">g and ε.</param>
    /// <param name="y">Result: x after the norm // (values + tangents, D). It must not overlap <paramref name="x"/>.</param>
    public void SenseNorm(CudaStream stream, in RowTable rows, Floats x, int layer, in RmsNorm norm, Floats y)
    {
        if (rows.Values == 0)
        {
            return;
        }

        var p = new SenseNormParameters { Rows = rows.Rows.Address, Norm = NormParameters.Of(x, rows.Dual, norm, y), Layer = layer };
        _senseNorm.Launch(new CudaLaunch(rows.Total, 1, 1, RowLaunch.ThreadsPerRow(p.Norm.D), Programmatic: true), stream, p);
    }

    /// <summary>
    /// y += u_k, where |u_k| is at most the law's bound, and dy += du_k for tangents. Comes after <see cref="Sense"/> of the same block.
    /// </summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">The rows, with their laws.</param>
    /// <param name="y">The block's output, or its input, changed in place // (values + tangents, D).</param>
    /// <param name="layer">Index k of the block; or L + k for its input.</param>
    public void Act(CudaStream stream, in RowTable rows, Floats y, int layer) => Launch(_act, stream, rows, y, layer);

    private static void Launch(CudaKernel kernel, CudaStream stream, in RowTable rows, Floats x, int layer)
    {
        if (rows.Values == 0)
        {
            return;
        }

        Debug.Assert(x.Holds(rows.Total, x.Columns), "x // (values + tangents, D)");
        var p = new SteerParameters
        {
            Rows = rows.Rows.Address,
            Owners = rows.Owners.Address,
            X = x.Address,
            Values = rows.Values,
            Layer = layer,
            D = x.Columns,
        };
        kernel.Launch(new CudaLaunch(rows.Total, 1, 1, RowLaunch.ThreadsPerRow(x.Columns), Programmatic: true), stream, p);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SteerParameters
    {
        public nint Rows;
        public nint Owners;
        public nint X;
        public int Values;
        public int Layer;
        public int D;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SenseNormParameters
    {
        public nint Rows;
        public NormParameters Norm;
        public int Layer;
    }
}
