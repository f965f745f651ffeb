namespace Tiller.Tests;

/// <summary>Runs work on new threads; an exception there makes the test fail.</summary>
internal static class OtherThread
{
    /// <summary>A thread that takes longer than this is taken to hang.</summary>
    public static TimeSpan Guard => TimeSpan.FromMinutes(3);

    public static Task Start(Action body) => Start(() =>
    {
        body();
        return true;
    });

    public static Task<T> Start<T>(Func<T> body) =>
        Task.Factory.StartNew(body, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    /// <summary>Waits for a thread, and throws what it has thrown.</summary>
    public static T End<T>(Task<T> thread) => thread.WaitAsync(Guard).GetAwaiter().GetResult();

    /// <summary>Waits for a thread, and throws what it has thrown.</summary>
    public static void End(Task thread) => thread.WaitAsync(Guard).GetAwaiter().GetResult();

    /// <summary>Runs a call on another thread and waits for it.</summary>
    public static void Run(Action body) => End(Start(body));

    /// <summary>Runs <paramref name="body"/>(i) on <paramref name="count"/> threads at once and waits for all.</summary>
    public static void Together(int count, Action<int> body)
    {
        Task[] threads = [.. Enumerable.Range(0, count).Select(i => Start(() => body(i)))];
        foreach (var thread in threads)
        {
            End(thread);
        }
    }

    /// <summary>Waits until something has happened on another thread.</summary>
    public static void Wait(TaskCompletionSource happened) => Assert.That(happened.Task.Wait(Guard), "what is waited for does not come");
}
