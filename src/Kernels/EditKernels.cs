using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>Edits of activations on the value rows of a batch, each row by its own law. Kernels in edit.cu.</summary>
internal sealed class EditKernels
{
    private readonly CudaKernel _edit;
    private readonly CudaKernel _join;

    /// <summary>Takes the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public EditKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _edit = kernel("tillerEdit");
        _join = kernel("tillerEditJoin");
    }

    /// <summary>z ← f(z) of rows whose laws have edits at a point, with |Δz|; others are untouched.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows">The rows, with their laws; tangents stay as they are.</param>
    /// <param name="y">z, or origin + z // (values, D).</param>
    /// <param name="origin">The residual stream without z; absent where y is z // (values, D).</param>
    /// <param name="stage">Point · L + k.</param>
    public void Edit(CudaStream stream, in RowTable rows, Floats y, Floats origin, int stage) => Launch(_edit, stream, rows, y, origin, stage);

    /// <summary>Scales rows back that decide on it together, after <see cref="Edit"/> of the same point; others are untouched.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows">The rows, with their laws.</param>
    /// <param name="y">z, or origin + z // (values, D).</param>
    /// <param name="origin">The residual stream without z; absent where y is z // (values, D).</param>
    /// <param name="stage">Point · L + k.</param>
    public void Join(CudaStream stream, in RowTable rows, Floats y, Floats origin, int stage) => Launch(_join, stream, rows, y, origin, stage);

    private static void Launch(CudaKernel kernel, CudaStream stream, in RowTable rows, Floats y, Floats origin, int stage)
    {
        if (rows.Values == 0)
        {
            return;
        }

        Debug.Assert(y.Holds(rows.Values, y.Columns) && (origin.IsAbsent || origin.Holds(rows.Values, y.Columns)), "y and origin // (values, D)");
        var p = new EditParameters
        {
            Rows = rows.Rows.Address,
            Y = y.Address,
            Origin = origin.IsAbsent ? 0 : origin.Address,
            Values = rows.Values,
            Stage = stage,
            D = y.Columns,
        };
        kernel.Launch(new CudaLaunch(rows.Values, 1, 1, RowLaunch.ThreadsPerRow(y.Columns), Programmatic: true), stream, p);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct EditParameters
    {
        public nint Rows;
        public nint Y;
        public nint Origin;
        public int Values;
        public int Stage;
        public int D;
    }
}
