using System.Globalization;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>What a part of a job tells about itself, on standard error.</summary>
internal static class ShardOutput
{
    /// <summary>Tells what will be measured, and the room that it takes.</summary>
    public static void Begin(Terminal terminal, Shard shard, int prompts, int all, long sizeInBytes, string folder)
    {
        string size = sizeInBytes < 1 << 20 ? $"{sizeInBytes / 1024.0:F0} KiB" : sizeInBytes < 1L << 30 ? $"{sizeInBytes / (double)(1 << 20):F1} MiB"
            : $"{sizeInBytes / (double)(1L << 30):F1} GiB";
        terminal.Error.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"tiller: shard {shard} measures {prompts} of {all} prompts and keeps {size} in {VisibleText.Of(folder)}"));
    }

    /// <summary>Tells what comes next.</summary>
    public static void End(Terminal terminal, Shard shard, string merge) =>
        terminal.Error.WriteLine($"tiller: shard {shard} has ended; when all have: {VisibleText.Of(merge)}");
}
