using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// Feedback laws at work on the rows of a dual batch, each row by its own. Kernels in steer.cu. Directions (<see cref="DeviceLayerLaw.V"/>,
/// <see cref="DeviceLayerLaw.W"/>) are 16-byte aligned.
/// </summary>
public sealed class SteerKernels
{
    private readonly CudaKernel _sense;
    private readonly CudaKernel _act;

    /// <summary>Takes the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public SteerKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _sense = kernel("tillerSteerSense");
        _act = kernel("tillerSteerAct");
    }

    /// <summary>
    /// α = β − v·x of the block's sensors into <see cref="DeviceSteering.Errors"/>, −v·dx of tangents into
    /// <see cref="DeviceSteering.TangentErrors"/> (cleared first at layer 0), and |x| where the law has terms.
    /// </summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows"><see cref="DeviceRow"/> // (values), on the device.</param>
    /// <param name="values">Value rows.</param>
    /// <param name="owners">Value row of each tangent, int // (tangents); not read without tangents.</param>
    /// <param name="tangents">Tangent rows.</param>
    /// <param name="x">What enters the block // (values + tangents, D).</param>
    /// <param name="layer">Block k.</param>
    /// <param name="D">Width.</param>
    public void Sense(CudaStream stream, nint rows, int values, nint owners, int tangents, nint x, int layer, int D) =>
        Launch(_sense, stream, rows, values, owners, tangents, x, layer, D);

    /// <summary>y += u_k with |u_k| at most the law's bound, and |u_k| before and after the bound; dy += du_k of tangents.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows"><see cref="DeviceRow"/> // (values), on the device.</param>
    /// <param name="values">Value rows.</param>
    /// <param name="owners">Value row of each tangent, int // (tangents); not read without tangents.</param>
    /// <param name="tangents">Tangent rows.</param>
    /// <param name="y">What leaves the block, moved in place // (values + tangents, D).</param>
    /// <param name="layer">Block k.</param>
    /// <param name="D">Width.</param>
    public void Act(CudaStream stream, nint rows, int values, nint owners, int tangents, nint y, int layer, int D) =>
        Launch(_act, stream, rows, values, owners, tangents, y, layer, D);

    private static void Launch(CudaKernel kernel, CudaStream stream, nint rows, int values, nint owners, int tangents, nint x, int layer, int d)
    {
        if (values == 0)
        {
            return;
        }

        var p = new SteerParameters { Rows = rows, Owners = owners, X = x, Values = values, Layer = layer, D = d };
        kernel.Launch(new CudaLaunch(values + tangents, 1, 1, RowLaunch.ThreadsPerRow(d), Programmatic: true), stream, p);
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
}
