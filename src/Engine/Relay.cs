namespace Tiller;

/// <summary>Calls back on the reporting thread; <see cref="Progress{T}"/> would post to the pool and arrive out of order.</summary>
internal sealed class Relay<T>(Action<T> report) : IProgress<T>
{
    public void Report(T value) => report(value);
}
