using System.Buffers;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Tiller.Serving;

/// <summary>An answer of server-sent events, each with one JSON value. Several tasks may write; each writes complete events.</summary>
internal sealed class EventStream : IAsyncDisposable
{
    private readonly HttpContext _context;
    private readonly SemaphoreSlim _turn = new(1, 1);
    private readonly Utf8JsonWriter _json;

    private EventStream(HttpContext context)
    {
        _context = context;
        _json = new Utf8JsonWriter(context.Response.BodyWriter, Reply.Json);
    }

    /// <summary>Begins the answer. Later errors are reported as events.</summary>
    public static async Task<EventStream> BeginAsync(HttpContext context)
    {
        var response = context.Response;
        response.ContentType = "text/event-stream; charset=utf-8";
        response.Headers.CacheControl = "no-cache, no-store";
        response.Headers["X-Accel-Buffering"] = "no";
        context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
        await response.StartAsync(context.RequestAborted);
        return new EventStream(context);
    }

    /// <summary>Waits for the right to write. <see cref="LeaveAsync"/> must follow.</summary>
    public Task EnterAsync() => _turn.WaitAsync(_context.RequestAborted);

    /// <summary>Writes an event. The caller must have the right to write.</summary>
    /// <param name="value">Writes the event's data.</param>
    /// <param name="name">The event's name; null for none.</param>
    public void Write(Action<Utf8JsonWriter> value, string? name = null)
    {
        var body = _context.Response.BodyWriter;
        if (name is not null)
        {
            body.Write("event: "u8);
            body.Write(System.Text.Encoding.ASCII.GetBytes(name));
            body.Write("\n"u8);
        }

        body.Write("data: "u8);
        _json.Reset();
        value(_json);
        _json.Flush();
        body.Write("\n\n"u8);
    }

    /// <summary>Sends the written events, and gives up the right to write. Waits while the client does not read.</summary>
    public async Task LeaveAsync()
    {
        try
        {
            await _context.Response.BodyWriter.FlushAsync(_context.RequestAborted);
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Writes one event and sends it.</summary>
    public async Task SendAsync(Action<Utf8JsonWriter> value, string? name = null)
    {
        await EnterAsync();
        try
        {
            Write(value, name);
        }
        finally
        {
            await LeaveAsync();
        }
    }

    /// <summary>Sends the last event of OpenAI's streams, [DONE].</summary>
    public async Task SendDoneAsync()
    {
        await EnterAsync();
        _context.Response.BodyWriter.Write("data: [DONE]\n\n"u8);
        await LeaveAsync();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _turn.Dispose();
        _json.Reset();
        await _json.DisposeAsync();
    }
}
