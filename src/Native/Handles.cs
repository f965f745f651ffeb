using System.Collections.Concurrent;

namespace Tiller.Native;

/// <summary>
/// The objects that a program in another language uses. Handles are numbers that are never reused, so that the use of a freed handle is noticed.
/// </summary>
internal static class Handles
{
    private static readonly ConcurrentDictionary<nint, IDisposable> s_objects = [];
    private static long s_last;

    /// <summary>Adds an object, and returns its handle.</summary>
    public static nint Add(IDisposable value)
    {
        // Handles are 16 apart, so that they are not mistaken for addresses of smaller objects.
        nint handle = (nint)(16 * Interlocked.Increment(ref s_last));
        s_objects[handle] = value;
        return handle;
    }

    /// <summary>The object with a handle.</summary>
    /// <exception cref="ArgumentException">The handle is NULL, unknown or freed, or the object has another type.</exception>
    public static T Get<T>(nint handle, string name)
        where T : class, IDisposable
        => s_objects.TryGetValue(handle, out var value)
            ? value as T ?? throw new ArgumentException($"{name} is the handle of an object of another type.")
            : throw new ArgumentException(handle == 0
                ? $"{name} is NULL; expected a handle."
                : $"{name} is not a handle: the object was freed, or the number did not come from this library.");

    /// <summary>Frees an object. A handle that is freed already, or of another type, has no effect.</summary>
    public static void Free<T>(nint handle)
        where T : class, IDisposable
    {
        if (s_objects.TryGetValue(handle, out var value) && value is T && s_objects.TryRemove(handle, out _))
        {
            value.Dispose();
        }
    }
}

/// <summary>A controller. It has nothing to free.</summary>
internal sealed record LoadedController(Controllers.Controller Value) : IDisposable
{
    public void Dispose()
    {
    }
}
