using System.Buffers;

namespace Tiller.Jinja;

/// <summary>Builds a text with the origins of its characters. It is of use until <see cref="ToText"/>, which gives its rented arrays back.</summary>
internal sealed class TextBuilder(Run run)
{
    private const int FirstCapacity = 256;
    private const int FirstChanges = 32;

    private char[] text = [];
    private int[] changes = [];
    private int count; // of the changes

    public Run Run => run;

    public int Length { get; private set; }

    public void Append(string value, bool content) => Append(value.AsSpan(), content);

    public void Append(ReadOnlySpan<char> value, bool content) => value.CopyTo(Begin(value.Length, content));

    public void Append(char value, bool content) => Begin(1, content)[0] = value;

    public void Append(char value, int count, bool content) => Begin(count, content).Fill(value);

    public void Append(Text value) => Append(value, 0, value.Length);

    public void Append(Text value, int start, int length)
    {
        if (length == 0)
        {
            return;
        }

        int at = Length;
        ReadOnlySpan<int> places = value.Changes;
        int next = places.IsEmpty ? 0 : value.ChangesUpTo(start);
        value.Span.Slice(start, length).CopyTo(Begin(length, (next & 1) == 1));
        for (; next < places.Length && places[next] < start + length; next++)
        {
            Change(at + places[next] - start);
        }
    }

    /// <summary>Appends Python's str() of a value.</summary>
    public void AppendStr(JinjaValue value) => value.Str(this);

    /// <summary>Removes what was appended since the text had a length, and gives it.</summary>
    public Text Take(int start)
    {
        int first = count;
        while (first > 0 && changes[first - 1] >= start)
        {
            first--;
        }

        // The state of the first character is that before it, and all changes at its place.
        var taken = new List<int>(count - first + 1);
        if ((first & 1) == 1)
        {
            taken.Add(0);
        }

        for (int i = first; i < count; i++)
        {
            int place = changes[i] - start;
            if (place == 0 && taken.Count > 0)
            {
                taken.Clear();
                continue;
            }

            taken.Add(place);
        }

        Text tail = Length == start ? Text.Empty : Text.Of(new string(text, start, Length - start), [.. taken]);
        (Length, count) = (start, first);
        return tail;
    }

    /// <summary>The text. The builder is empty afterwards.</summary>
    public Text ToText(bool safe = false)
    {
        Text whole = Length == 0 && !safe ? Text.Empty
            : Text.Of(new string(text, 0, Length), count == 0 ? [] : changes.AsSpan(0, count).ToArray(), safe);
        Return(text);
        Return(changes);
        (text, changes, Length, count) = ([], [], 0, 0);
        return whole;
    }

    // Room for characters of one origin.
    private Span<char> Begin(int length, bool content)
    {
        if (length == 0)
        {
            return [];
        }

        long whole = (long)Length + length;
        run.ChargeText(whole > run.Limits.TextLength ? whole : length);
        if (content != ((count & 1) == 1))
        {
            Change(Length);
        }

        if (whole > text.Length)
        {
            Grow(ref text, Length, (int)Math.Max(whole, FirstCapacity));
        }

        Span<char> room = text.AsSpan(Length, length);
        Length += length;
        return room;
    }

    private void Change(int place)
    {
        if (count == changes.Length)
        {
            Grow(ref changes, count, Math.Max(count + 1, FirstChanges));
        }

        changes[count++] = place;
    }

    private static void Grow<T>(ref T[] array, int used, int least)
    {
        T[] larger = ArrayPool<T>.Shared.Rent(Math.Max(least, (int)Math.Min(2L * array.Length, Array.MaxLength)));
        array.AsSpan(0, used).CopyTo(larger);
        Return(array);
        array = larger;
    }

    private static void Return<T>(T[] array)
    {
        if (array.Length > 0)
        {
            ArrayPool<T>.Shared.Return(array);
        }
    }
}
