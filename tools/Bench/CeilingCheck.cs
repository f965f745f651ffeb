namespace Tiller.Bench;

/// <summary>
/// Nothing is faster than its limit. A row on the CPU above its ceiling shows that the ceiling was measured too low, so the percentages of its run
/// mean nothing.
/// </summary>
internal sealed class CeilingCheck
{
    private BenchRow? _worst;
    private int _above;

    /// <summary>Looks at a row and returns it.</summary>
    public BenchRow Pass(BenchRow row)
    {
        if (row.Device.StartsWith("cpu", StringComparison.Ordinal) && row.PercentOfCeiling > 100)
        {
            _above++;
            _worst = row.PercentOfCeiling > (_worst?.PercentOfCeiling ?? 0) ? row : _worst;
        }

        return row;
    }

    /// <summary>Ends a run.</summary>
    /// <exception cref="BenchException">A row was above its ceiling.</exception>
    public void End()
    {
        if (_worst is { } worst)
        {
            throw new BenchException(
                FormattableString.Invariant($"{_above} row{(_above == 1 ? " is" : "s are")} above 100 % of the ceiling; the highest is ")
                + FormattableString.Invariant($"\"{worst.Name}\" at {worst.PercentOfCeiling:0.0} % of {worst.Ceiling:0.0} {worst.CeilingUnit}. ")
                + "The ceiling was measured too low, so the percentages of this run mean nothing. "
                + "Measure again while nothing else runs, with more --seconds.");
        }
    }
}
