using Tiller.Checkpoint;
using Tiller.Cpu;
using Tiller.Ops;

namespace Tiller.Synthesis;

/// <summary>
/// How the directions of all prompts pass through a block. The directions are divided into panels. A pass takes one panel for as many prompts as fit.
/// If the device serves several callers, several lanes of panels run side by side, and where those of one block would be narrow, the lanes take
/// several blocks at once: what a pass does once for all of its directions is then done less often. The number of lanes changes no bit of the
/// results: every panel is large enough, and every pass has few enough prompts, that the same kernels run.
/// </summary>
/// <param name="Directions">Number of directions of each prompt.</param>
/// <param name="Blocks">Number of blocks whose panels run together.</param>
/// <param name="Panels">Number of panels of a block.</param>
/// <param name="Lanes">Number of panels that run at once; lane i takes the panels i, i + Lanes, … of these blocks, counted block by block.</param>
/// <param name="Prompts">Largest number of prompts in one pass.</param>
internal readonly record struct PassPlan(int Directions, int Blocks, int Panels, int Lanes, int Prompts)
{
    // Of the demo, two panels of 64 directions take 5 % longer than half of two blocks with 128; from here on there is less to gain.
    private const int Wide = 208;

    // Panels end where tiles of rows end.
    private const int Step = 16;

    /// <summary>Makes a plan.</summary>
    /// <param name="c">Shape of the model.</param>
    /// <param name="directions">Number of tangents or cotangents of each prompt.</param>
    /// <param name="callers">Number of passes that the device runs at once, <see cref="DeviceOps.Callers"/>.</param>
    /// <param name="jacobianRows">
    /// Number of rows in a block at once in all lanes together, more if there are many lanes: <see cref="DeviceOps.JacobianRows"/>.
    /// </param>
    /// <param name="blocks">Number of blocks that the directions are wanted of.</param>
    public static PassPlan Of(ModelConfig c, int directions, int callers, int jacobianRows, int blocks = 1)
    {
        // From E/2 tangents on, attention forms its derivative as a matrix on every device.
        int least = Math.Max(CpuLinear.TangentsAlone, ((c.E / 2) + Step - 1) / Step * Step);
        if (directions < 2 * least)
        {
            return new PassPlan(directions, 1, 1, 1, Math.Max(1, jacobianRows / (directions + 1)));
        }

        int together = Math.Clamp(callers * Wide / directions, 1, Math.Min(callers, blocks));
        int narrowest = directions / Step * Step / least, side = Math.Min(callers / together, narrowest);
        int rows = Math.Max(jacobianRows / (together * side), together > 1 ? Wide + (3 * Step) : (2 * least) + (4 * Step));
        int most = rows - (3 * Step);
        int panels = (((directions + most - 1) / most) + side - 1) / side * side;
        panels = Math.Min(panels, narrowest);
        var plan = new PassPlan(directions, together, panels, together * Math.Min(side, panels), 1);
        return plan with { Prompts = Math.Clamp(rows / (plan.Largest(0, 1) + 1), 1, CpuLinear.DotRows) };
    }

    /// <summary>First direction of a panel, and its number of directions.</summary>
    /// <param name="i">The panel, counted over all blocks.</param>
    public (int First, int Count) Panel(int i)
    {
        int panel = i % Panels, begin = Begin(panel);
        return (begin, Begin(panel + 1) - begin);
    }

    /// <summary>Number of directions of the largest panel of a lane.</summary>
    public int Largest(int lane) => Largest(lane, Lanes);

    private int Begin(int panel) => panel == Panels ? Directions : (int)((long)(Directions / Step) * panel / Panels) * Step;

    private int Largest(int first, int step)
    {
        int largest = 0;
        for (int i = first; i < Blocks * Panels; i += step)
        {
            largest = Math.Max(largest, Panel(i).Count);
        }

        return largest;
    }
}
