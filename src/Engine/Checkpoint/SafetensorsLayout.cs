namespace Tiller.Checkpoint;

/// <summary>
/// Checks that the tensors fill the data section of a file: in the order of their offsets, each begins where the one before ends, each has the length
/// that its type and shape imply, and the last ends at the end of the file.
/// </summary>
internal static class SafetensorsLayout
{
    public static TensorInfo[] Check(IReadOnlyList<TensorEntry> entries, int jsonLength, long fileLength, string file)
    {
        TensorEntry[] sorted = [.. entries.OrderBy(e => e.Begin).ThenBy(e => e.End)];
        var tensors = new TensorInfo[sorted.Length];
        ulong position = 0;
        for (int i = 0; i < sorted.Length; i++)
        {
            TensorEntry entry = sorted[i];
            if (entry.Begin != position || entry.End < entry.Begin)
            {
                throw new SafetensorsException(
                    SafetensorsError.InvalidOffset, file, "the tensors must lie one after the other, without gap or overlap." + SharedHint(sorted, i),
                    entry.Name, expected: $"a begin of {position} and an end not before it", actual: $"[{entry.Begin}, {entry.End}]");
            }

            ulong size = SizeInBytes(entry, file);
            if (entry.End - entry.Begin != size)
            {
                throw new SafetensorsException(
                    SafetensorsError.TensorInvalidInfo, file, "offsets disagree with type and shape.", entry.Name,
                    expected: $"{size} bytes for {entry.Type.SpecName()} {Shape(entry)}", actual: $"{entry.End - entry.Begin}");
            }

            position = entry.End;
            long[] shape = [.. entry.Shape.Select(n => unchecked((long)n))];
            tensors[i] = new TensorInfo(entry.Name, entry.Type, shape, unchecked((long)entry.Begin), unchecked((long)entry.End));
        }

        ulong header = (ulong)(SafetensorsHeader.PrefixLength + jsonLength);
        if (position > ulong.MaxValue - header)
        {
            throw new SafetensorsException(SafetensorsError.Overflow, file, "the tensors end past 2^64 bytes.", sorted[^1].Name);
        }

        if (position + header != (ulong)fileLength)
        {
            string how = position + header > (ulong)fileLength ? "the file is cut short." : "bytes follow the last tensor.";
            throw new SafetensorsException(
                SafetensorsError.IncompleteBuffer, file, how, sorted.Length > 0 ? sorted[^1].Name : null, expected: $"{position + header} bytes",
                actual: $"{fileLength}");
        }

        return tensors;
    }

    /// <summary>Π shape · bits / 8, multiplied from left to right as the format's reference does.</summary>
    public static ulong SizeInBytes(TensorEntry entry, string file)
    {
        UInt128 count = 1;
        foreach (ulong n in entry.Shape)
        {
            count *= n;
            if (count > ulong.MaxValue)
            {
                throw Overflow(entry, file);
            }
        }

        UInt128 bits = count * (uint)entry.Type.BitsPerElement();
        if (bits > ulong.MaxValue)
        {
            throw Overflow(entry, file);
        }

        if (bits % 8 != 0)
        {
            throw new SafetensorsException(
                SafetensorsError.MisalignedSlice, file, "the elements do not fill whole bytes.", entry.Name,
                expected: "a multiple of 8 bits", actual: $"{bits} for {entry.Type.SpecName()} {Shape(entry)}");
        }

        return (ulong)(bits / 8);
    }

    private static string Shape(TensorEntry entry) => TensorInfo.Format(entry.Shape.Select(n => unchecked((long)n)));

    private static SafetensorsException Overflow(TensorEntry entry, string file)
        => new(SafetensorsError.Overflow, file, "the shape does not fit 64 bits.", entry.Name, actual: $"{entry.Type.SpecName()} {Shape(entry)}");

    private static string SharedHint(TensorEntry[] sorted, int i)
        => i > 0 && sorted[i - 1].Begin == sorted[i].Begin && sorted[i - 1].End == sorted[i].End
            ? $" It shares its bytes with {Quoted.Text(sorted[i - 1].Name)}: tied weights must be stored once."
            : "";
}
