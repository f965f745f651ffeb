using System.Runtime.CompilerServices;

namespace Tiller.Jinja;

/// <summary>One rendering: what it may still do, where it is, and what it may ask.</summary>
internal sealed class Run
{
    // Between two looks at the cancellation token.
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

    /// <summary>Values of the names that the template takes from outside, in the order of its list of names; null where there is none.</summary>
    public JinjaValue?[] Outside { get; init; } = [];

    /// <summary>What the top level has set of those names since, for the template's blocks.</summary>
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

    /// <summary>Before a text of that many characters is made.</summary>
    public void ChargeText(long length)
    {
        if (length > Limits.TextLength)
        {
            throw new JinjaException(JinjaError.Limit, $"A text of more than {Limits.TextLength} characters would be made.");
        }

        Charge(1 + (Math.Max(length, 0) >> 4));
    }

    /// <summary>Before one text is sought in another; a long one may nearly match at every place.</summary>
    public void ChargeSearch(int length, int sought) => Charge(1 + (length >> 4) + (sought > 32 ? ((long)length * sought) >> 10 : 0));

    /// <summary>Goes into a value of a value.</summary>
    public void Enter() => Enter(1);

    public void Leave() => depth--;

    /// <summary>Goes into a call.</summary>
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
