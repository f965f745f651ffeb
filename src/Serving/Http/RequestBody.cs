using System.Text.Json;
using System.Text.Unicode;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Tiller.Serving;

/// <summary>Bodies of requests, bounded.</summary>
internal static class RequestBody
{
    /// <summary>Reads a body of JSON.</summary>
    /// <returns>The document, which the caller disposes of.</returns>
    /// <exception cref="ApiException">It is not JSON, nested too deep, or too large.</exception>
    public static async Task<JsonDocument> ReadJsonAsync(HttpContext context, ServiceOptions options)
    {
        // A page elsewhere may send plain text without asking; it may not send JSON.
        if (!context.Request.HasJsonContentType())
        {
            throw new ApiException(StatusCodes.Status415UnsupportedMediaType, ApiException.InvalidRequest,
                "The body must be JSON, with the header 'Content-Type: application/json'.", null, "unsupported_media_type");
        }

        Bound(context, options.MaxBodyBytes);
        using var body = new MemoryStream();
        await CopyAsync(context, body, options.MaxBodyBytes);
        var bytes = body.GetBuffer().AsMemory(0, (int)body.Length);
        if (!Utf8.IsValid(bytes.Span))
        {
            throw ApiException.Bad(null, "The body is not valid UTF-8.", "invalid_json");
        }

        try
        {
            return JsonDocument.Parse(bytes, new JsonDocumentOptions { MaxDepth = options.MaxJsonDepth, AllowDuplicateProperties = false });
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // Of a name with half a surrogate pair the second.
            throw ApiException.Bad(null, $"The body is not JSON as it is taken here: {e.Message}", "invalid_json");
        }
    }

    /// <summary>Copies a body of bytes.</summary>
    /// <exception cref="ApiException">It is too large.</exception>
    public static async Task CopyAsync(HttpContext context, Stream to, long most)
    {
        byte[] buffer = new byte[64 << 10];
        for (long total = 0; ;)
        {
            int read = await ReadAsync(context, buffer);
            if (read == 0)
            {
                return;
            }

            total += read;
            if (total > most)
            {
                throw TooLarge(most);
            }

            await to.WriteAsync(buffer.AsMemory(0, read), context.RequestAborted);
        }
    }

    private static async Task<int> ReadAsync(HttpContext context, byte[] buffer)
    {
        try
        {
            return await context.Request.Body.ReadAsync(buffer, context.RequestAborted);
        }
        catch (IOException e) when (e is not BadHttpRequestException)
        {
            throw ApiException.Bad(null, $"The body cannot be read: {e.Message}", "bad_request");
        }
    }

    /// <summary>Has the server take so much, and refuses what says that it is more.</summary>
    public static void Bound(HttpContext context, long most)
    {
        if (context.Request.ContentLength > most)
        {
            throw TooLarge(most);
        }

        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } limit)
        {
            limit.MaxRequestBodySize = most;
        }
    }

    private static ApiException TooLarge(long most) => new(StatusCodes.Status413PayloadTooLarge, ApiException.InvalidRequest,
        $"The body is larger than {most} bytes, which is what is taken here: send less.", null, "request_too_large");
}
