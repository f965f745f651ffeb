using System.Collections.Concurrent;

namespace Tiller.Native;

/// <summary>
/// Objects that a program in another language holds. Handles are numbers that are never given out twice, so that a stale one is noticed.
/// </summary>
internal static class Handles
{
    private static readonly ConcurrentDictionary<nint, IDisposable> s_objects = [];
    private static long s_last;

    /// <summary>A handle of an object.</summary>
    public static nint Add(IDisposable value)
    {
        // 16 apart: nobody takes them for addresses of something smaller.
        nint handle = (nint)(16 * Interlocked.Increment(ref s_last));
        s_objects[handle] = value;
        return handle;
    }

    /// <summary>The object of a handle.</summary>
    /// <exception cref="ArgumentException">The handle is none, or was freed, or is of something else.</exception>
    public static T Get<T>(nint handle, string name)
        where T : class, IDisposable
        => s_objects.TryGetValue(handle, out var value)
            ? value as T ?? throw new ArgumentException($"{name} is a handle of something else.")
            : throw new ArgumentException(handle == 0
                ? $"{name} is NULL; expected a handle."
                : $"{name} is no handle: it was freed, or this library never gave it out.");

    /// <summary>Frees an object; one that is gone already, or of another kind, is left alone.</summary>
    public static void Free<T>(nint handle)
        where T : class, IDisposable
    {
        if (s_objects.TryGetValue(handle, out var value) && value is T && s_objects.TryRemove(handle, out _))
        {
            value.Dispose();
        }
    }
}

/// <summary>A controller, which owns nothing.</summary>
internal sealed record LoadedController(Controllers.Controller Value) : IDisposable
{
    public void Dispose()
    {
    }
}
