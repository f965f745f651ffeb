using Microsoft.Extensions.Logging;

namespace Tiller.Tool;

/// <summary>Writes the log of a server to standard error, one line for each entry.</summary>
internal sealed class TerminalLog(Terminal terminal) : ILoggerProvider, ILogger
{
    private readonly Lock _lock = new();

    public ILogger CreateLogger(string categoryName) => this;

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel != LogLevel.None;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        string level = logLevel >= LogLevel.Error ? "error: " : logLevel == LogLevel.Warning ? "warning: " : "";
        string cause = exception is null ? "" : $" {exception}";
        lock (_lock)
        {
            terminal.Error.WriteLine($"tiller: {level}{VisibleText.Of(formatter(state, exception) + cause)}");
        }
    }

    public void Dispose()
    {
    }
}
