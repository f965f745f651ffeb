using Tiller.Bench;

namespace Tiller.Tool;

/// <summary>Reads times that people type: a number and a unit, or a number of seconds.</summary>
internal static class TypedTime
{
    // The longest unit first, as ms ends with s, too.
    private static readonly (string Name, double Seconds)[] s_units = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)];

    /// <summary>Reads a time, as long as <see cref="TimeSpan"/> holds it.</summary>
    public static bool TryRead(string text, out TimeSpan time)
    {
        var (name, seconds) = Array.Find(s_units, unit => text.EndsWith(unit.Name, StringComparison.Ordinal));
        time = default;
        if (!TypedNumber.TryRead(name is null ? text : text[..^name.Length], out double number))
        {
            return false;
        }

        double total = number * (name is null ? 1 : seconds);
        if (Math.Abs(total) >= TimeSpan.MaxValue.TotalSeconds)
        {
            return false;
        }

        time = TimeSpan.FromSeconds(total);
        return true;
    }
}
