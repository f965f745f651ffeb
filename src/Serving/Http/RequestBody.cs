using System.Text.Json;
using System.Text.Unicode;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace Tiller.Serving;

/// <summary>Reads the bodies of requests, up to a maximum size.</summary>
internal static class RequestBody
{
    /// <summary>Reads a JSON body.</summary>
    /// <returns>The document, of which the caller must dispose.</returns>
    /// <exception cref="ApiException">The body is not JSON, is nested too deeply, or is too large.</exception>
    public static async Task<JsonDocument> ReadJsonAsync(HttpContext context, ServiceOptions options)
    {
        // A page of another site may send plain text without a preflight request of the browser, but not JSON.
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
            // InvalidOperationException: a name contains half a surrogate pair.
            throw ApiException.Bad(null, $"The body is not valid JSON: {e.Message}", "invalid_json");
        }
    }

    /// <summary>Copies a body of bytes to a stream.</summary>
    /// <exception cref="ApiException">The body is too large.</exception>
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

    /// <summary>Sets the server's limit for this body, and refuses a body whose declared size exceeds it.</summary>
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
        $"The body is larger than the limit of {most} bytes: send less.", null, "request_too_large");
}
