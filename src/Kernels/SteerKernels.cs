using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// Feedback laws at work on the rows of a dual batch, each row by its own. Kernels in steer.cu. Directions (<see cref="DeviceLayerLaw.V"/>,
/// <see cref="DeviceLayerLaw.W"/>) are 16-byte aligned.
/// </summary>
internal sealed class SteerKernels
{
    private readonly CudaKernel _sense;
    private readonly CudaKernel _senseNorm;
    private readonly CudaKernel _act;

    /// <summary>Takes the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public SteerKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _sense = kernel("tillerSteerSense");
        _senseNorm = kernel("tillerSteerSenseNorm");
        _act = kernel("tillerSteerAct");
    }

    /// <summary>
    /// Errors of the block's sensors into <see cref="DeviceSteering.Errors"/>, their tangents into
    /// <see cref="DeviceSteering.TangentErrors"/> (cleared first at the law's first stage); |x|, and |u| before and after the bound, where the law
    /// has terms.
    /// </summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows">The rows, with their laws.</param>
    /// <param name="x">What enters the block // (values + tangents, D).</param>
    /// <param name="layer">Block k, or L + k for its input, which laws without such a stage leave out.</param>
    public void Sense(CudaStream stream, in RowTable rows, Floats x, int layer) => Launch(_sense, stream, rows, x, layer);

    /// <summary><see cref="Sense"/> and <see cref="NormKernels.Forward"/> of the same rows in one launch, with the same bits.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows">The rows, with their laws.</param>
    /// <param name="x">What enters the block // (values + tangents, D).</param>
    /// <param name="layer">Block k.</param>
    /// <param name="norm">g and ε.</param>
    /// <param name="y">x normed // (values + tangents, D); must not overlap <paramref name="x"/>.</param>
    public void SenseNorm(CudaStream stream, in RowTable rows, Floats x, int layer, in RmsNorm norm, Floats y)
    {
        if (rows.Values == 0)
        {
            return;
        }

        var p = new SenseNormParameters { Rows = rows.Rows.Address, Norm = NormParameters.Of(x, rows.Dual, norm, y), Layer = layer };
        _senseNorm.Launch(new CudaLaunch(rows.Total, 1, 1, RowLaunch.ThreadsPerRow(p.Norm.D), Programmatic: true), stream, p);
    }

    /// <summary>y += u_k with |u_k| at most the law's bound, after <see cref="Sense"/> of the same block; dy += du_k of tangents.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows">The rows, with their laws.</param>
    /// <param name="y">What leaves the block, or its input, moved in place // (values + tangents, D).</param>
    /// <param name="layer">Block k, or L + k for its input.</param>
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
