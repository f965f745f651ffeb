using System.Runtime.CompilerServices;

namespace Tiller.Jinja;

/// <summary>The state of one rendering: its remaining steps, its line and its environment.</summary>
internal sealed class Run
{
    // Number of steps between two checks of the cancellation token.
    private const long Stride = 1 << 16;

    private const int CallDepth = 5;

    private readonly CancellationToken cancellation;
    private long left;
    private long next;
    private int depth;

    public Run(JinjaLimits limits, TimeProvider clock, CancellationToken cancellation)
    {
        Limits = limits;
        Clock = clock;
        this.cancellation = cancellation;
        left = limits.Steps;
        next = Math.Max(left - Stride, 0);
    }

    public JinjaLimits Limits { get; }

    public TimeProvider Clock { get; }

    /// <summary>The line of the template that is being rendered.</summary>
    public int Line { get; set; }

    /// <summary>Values that the caller supplies, in the order of the template's list of names; null for a missing one.</summary>
    public JinjaValue?[] Outside { get; init; } = [];

    /// <summary>Values of these names that the top level has set since, for the template's blocks.</summary>
    public JinjaValue?[] Shared { get; init; } = [];

    public JinjaValue? Given(int name) => Shared[name] ?? Outside[name];

    public void Charge(long steps)
    {
        left -= steps;
        if (left < next)
        {
            Look();
        }
    }

    /// <summary>Charges for a new text of the given length. Call it before creating the text.</summary>
    public void ChargeText(long length)
    {
        if (length > Limits.TextLength)
        {
            throw new JinjaException(JinjaError.Limit, $"A text of more than {Limits.TextLength} characters would be made.");
        }

        Charge(1 + (Math.Max(length, 0) >> 4));
    }

    /// <summary>Charges for a search in a text. A long pattern costs more, because it may almost match at every position.</summary>
    public void ChargeSearch(int length, int sought) => Charge(1 + (length >> 4) + (sought > 32 ? ((long)length * sought) >> 10 : 0));

    /// <summary>Enters a nested value.</summary>
    public void Enter() => Enter(1);

    public void Leave() => depth--;

    /// <summary>Enters a nested call.</summary>
    public void EnterCall() => Enter(CallDepth);

    public void LeaveCall() => depth -= CallDepth;

    private void Enter(int levels)
    {
        depth += levels;
        if (depth > Limits.Nesting || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            throw new JinjaException(JinjaError.Recursion,
                $"Calls nest more than {Limits.Nesting / CallDepth} deep, values more than {Limits.Nesting}, or either deeper than the stack.");
        }
    }

    private void Look()
    {
        cancellation.ThrowIfCancellationRequested();
        if (left < 0)
        {
            throw new JinjaException(JinjaError.Limit, $"The template takes more than {Limits.Steps} steps.");
        }

        next = Math.Max(left - Stride, 0);
    }
}
