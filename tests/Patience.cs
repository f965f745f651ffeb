namespace Tiller.Tests;

/// <summary>
/// Limits how long a test waits for something that must happen. It guards against hanging and is never what a test measures: tests cancel on events
/// and count work, and none may depend on how fast the machine is or on what else it runs.
/// </summary>
internal static class Patience
{
    public static readonly TimeSpan Limit = TimeSpan.FromMinutes(5);

    /// <summary>Cancels a long run that would never end by itself.</summary>
    public static CancellationTokenSource Guard() => new(6 * Limit);

    /// <summary>Waits until a condition holds.</summary>
    public static void Until(Func<bool> isSo, string what) => Assert.That(SpinWait.SpinUntil(isSo, Limit), $"waited in vain for this: {what}");

    /// <summary>Makes a call that must return within the limit.</summary>
    public static T Returns<T>(Func<T> call)
    {
        var task = Task.Factory.StartNew(call, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        Assert.That(Task.WaitAny([task], Limit), Is.Zero, "the call did not come back");
        return task.GetAwaiter().GetResult();
    }

    /// <summary>Awaits what must come.</summary>
    public static Task<T> InTime<T>(this Task<T> task) => task.WaitAsync(Limit);

    /// <summary>Awaits what must come.</summary>
    public static Task InTime(this Task task) => task.WaitAsync(Limit);
}
