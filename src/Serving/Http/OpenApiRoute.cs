using Microsoft.AspNetCore.Http;

namespace Tiller.Serving;

/// <summary><c>/openapi.json</c>: all routes and fields, for programs.</summary>
internal static class OpenApiRoute
{
    private const string Name = "openapi.json";

    private static readonly Lazy<byte[]> s_document = new(() =>
    {
        using var resource = typeof(OpenApiRoute).Assembly.GetManifestResourceStream(Name)!;
        byte[] document = new byte[resource.Length];
        resource.ReadExactly(document);
        return document;
    });

    /// <summary>The document, in UTF-8.</summary>
    public static ReadOnlyMemory<byte> Document => s_document.Value;

    public static async Task Get(HttpContext context)
    {
        context.Response.ContentType = "application/json";
        context.Response.ContentLength = Document.Length;
        await context.Response.Body.WriteAsync(Document, context.RequestAborted);
    }
}
