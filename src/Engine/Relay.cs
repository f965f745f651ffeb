namespace Tiller;

/// <summary>
/// Calls the callback on the reporting thread. <see cref="Progress{T}"/> would post to the thread pool, where reports may arrive out of order.
/// </summary>
internal sealed class Relay<T>(Action<T> report) : IProgress<T>
{
    public void Report(T value) => report(value);
}
