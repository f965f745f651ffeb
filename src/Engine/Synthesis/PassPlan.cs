using Tiller.Checkpoint;
using Tiller.Cpu;
using Tiller.Ops;

namespace Tiller.Synthesis;

/// <summary>
/// How directions × prompts go through a block: the directions in panels, each with as many prompts at a time as fit, several lanes of panels
/// side by side where the device serves several callers. How many lanes there are changes no bit: every panel is large enough, and every
/// pass has few enough prompts, for the same kernels.
/// </summary>
/// <param name="Directions">All of them.</param>
/// <param name="Panels">Parts of the directions.</param>
/// <param name="Lanes">Panels in work at once; lane i takes panels i, i + Lanes, ….</param>
/// <param name="Prompts">Prompts in one pass, at most.</param>
internal readonly record struct PassPlan(int Directions, int Panels, int Lanes, int Prompts)
{
    // Directions are cut where tiles of rows end.
    private const int Step = 16;

    /// <summary>Plans.</summary>
    /// <param name="c">Shape of the model.</param>
    /// <param name="directions">Tangents or cotangents of each prompt.</param>
    /// <param name="callers">What the device serves at once, <see cref="DeviceOps.Callers"/>.</param>
    /// <param name="jacobianRows">
    /// Rows through a block at once, all lanes together, unless the lanes are many: <see cref="DeviceOps.JacobianRows"/>.
    /// </param>
    public static PassPlan Of(ModelConfig c, int directions, int callers, int jacobianRows)
    {
        // From E/2 tangents on, attention applies its derivative as a matrix.
        int least = Math.Max(CpuLinear.TangentsAlone, ((c.E / 2) + Step - 1) / Step * Step);
        if (directions < 2 * least)
        {
            return new PassPlan(directions, 1, 1, Math.Max(1, jacobianRows / (directions + 1)));
        }

        int steps = directions / Step, lanes = Math.Min(callers, steps * Step / least);
        int rows = Math.Max(jacobianRows / lanes, (2 * least) + (4 * Step));
        int most = rows - (3 * Step);
        int panels = (((directions + most - 1) / most) + lanes - 1) / lanes * lanes;
        panels = Math.Min(panels, steps * Step / least);
        var plan = new PassPlan(directions, panels, Math.Min(lanes, panels), 1);
        return plan with { Prompts = Math.Clamp(rows / (plan.Largest(0, 1) + 1), 1, CpuLinear.DotRows) };
    }

    /// <summary>First direction of a panel, and how many there are in it.</summary>
    public (int First, int Count) Panel(int i)
    {
        int begin = Begin(i);
        return (begin, Begin(i + 1) - begin);
    }

    /// <summary>Directions of the largest panel of a lane.</summary>
    public int Largest(int lane) => Largest(lane, Lanes);

    private int Begin(int panel) => panel == Panels ? Directions : (int)((long)(Directions / Step) * panel / Panels) * Step;

    private int Largest(int first, int step)
    {
        int largest = 0;
        for (int i = first; i < Panels; i += step)
        {
            largest = Math.Max(largest, Panel(i).Count);
        }

        return largest;
    }
}
