namespace Tiller.Native;

/// <summary>Access to memory of the caller.</summary>
internal static unsafe class Results
{
    /// <summary>Refuses a NULL pointer to a result.</summary>
    public static void Check(void* result, string name)
    {
        if (result is null)
        {
            throw new ArgumentException($"{name} is NULL; expected a pointer to which the result can be written.");
        }
    }

    /// <summary>Refuses a NULL pointer to a list that is not empty.</summary>
    public static void CheckItems(void* items, nuint count, string name)
    {
        if (items is null && count > 0)
        {
            throw new ArgumentException($"{name} is NULL; expected {count} items.");
        }
    }

    /// <summary>A list of numbers as a span.</summary>
    public static ReadOnlySpan<int> Items(int* items, nuint count, string name)
    {
        CheckItems(items, count, name);
        return count <= int.MaxValue ? new ReadOnlySpan<int>(items, (int)count) : throw new ArgumentException($"{name} has {count} items: too many.");
    }

    /// <summary>Writes a result, unless the pointer is NULL.</summary>
    public static void Set(int* result, int value)
    {
        if (result is not null)
        {
            *result = value;
        }
    }

    /// <summary>Writes ids and their number.</summary>
    /// <exception cref="BufferTooSmallException">The ids do not fit. Their number has been written.</exception>
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
