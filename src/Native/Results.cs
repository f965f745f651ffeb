namespace Tiller.Native;

/// <summary>Memory of the caller's.</summary>
internal static unsafe class Results
{
    /// <summary>Refuses a result that cannot be written.</summary>
    public static void Check(void* result, string name)
    {
        if (result is null)
        {
            throw new ArgumentException($"{name} is NULL; expected where to write the result.");
        }
    }

    /// <summary>Refuses a list that cannot be read.</summary>
    public static void CheckItems(void* items, nuint count, string name)
    {
        if (items is null && count > 0)
        {
            throw new ArgumentException($"{name} is NULL; expected {count} items.");
        }
    }

    /// <summary>A list of numbers.</summary>
    public static ReadOnlySpan<int> Items(int* items, nuint count, string name)
    {
        CheckItems(items, count, name);
        return count <= int.MaxValue ? new ReadOnlySpan<int>(items, (int)count) : throw new ArgumentException($"{name} has {count} items: too many.");
    }

    /// <summary>Writes where somebody asks.</summary>
    public static void Set(int* result, int value)
    {
        if (result is not null)
        {
            *result = value;
        }
    }

    /// <summary>Writes ids, and how many there are.</summary>
    /// <exception cref="BufferTooSmallException">They do not fit; how many there are has been written.</exception>
    public static void Write(int[] ids, int* to, nuint capacity, nuint* count)
    {
        Check(count, nameof(count));
        *count = (nuint)ids.Length;
        if (capacity < (nuint)ids.Length)
        {
            throw new BufferTooSmallException(ids.Length, capacity);
        }

        if (ids.Length > 0)
        {
            Check(to, nameof(ids));
            ids.CopyTo(new Span<int>(to, ids.Length));
        }
    }
}
