using System.Buffers;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Tiller.Serving;

/// <summary>Writes answers that are one JSON value.</summary>
internal static class Reply
{
    /// <summary>Escapes only what JSON requires, because texts are data for programs and not parts of a web page.</summary>
    public static readonly JsonWriterOptions Json = new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Writes an answer.</summary>
    public static async Task JsonAsync(HttpContext context, Action<Utf8JsonWriter> write, int status = StatusCodes.Status200OK)
    {
        var body = new ArrayBufferWriter<byte>();
        await using (var json = new Utf8JsonWriter(body, Json))
        {
            write(json);
        }

        var response = context.Response;
        response.StatusCode = status;
        response.ContentType = "application/json";
        response.ContentLength = body.WrittenCount;
        response.Headers.CacheControl = "no-store";
        await response.Body.WriteAsync(body.WrittenMemory, context.RequestAborted);
    }

    /// <summary>Writes an error as the answer.</summary>
    public static Task ErrorAsync(HttpContext context, ApiException error)
    {
        var headers = context.Response.Headers;
        headers.RetryAfter = error.RetryAfterSeconds;
        if (error.Status == StatusCodes.Status401Unauthorized)
        {
            headers.WWWAuthenticate = "Bearer";
        }

        return JsonAsync(context, json => WriteError(json, error), error.Status);
    }

    /// <summary>Writes the object of an error.</summary>
    public static void WriteError(Utf8JsonWriter json, ApiException error)
    {
        json.WriteStartObject();
        json.WriteStartObject("error");
        json.WriteString("message", error.Message);
        json.WriteString("type", error.Type);
        json.WriteString("param", error.Param);
        json.WriteString("code", error.Code);
        json.WriteEndObject();
        json.WriteEndObject();
    }
}
