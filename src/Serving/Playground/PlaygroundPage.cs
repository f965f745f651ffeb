using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;

namespace Tiller.Serving;

/// <summary>
/// The page on which to try a model: one document made of the assembly's resources, which loads nothing else. Its content security policy allows only
/// its own script and style.
/// </summary>
internal static class PlaygroundPage
{
    private static readonly string s_style = Read("playground.css");
    private static readonly string s_script = Read("playground.js");

    private static readonly byte[] s_page = Encoding.UTF8.GetBytes(Read("playground.html")
        .Replace("/*style*/", s_style, StringComparison.Ordinal).Replace("/*script*/", s_script, StringComparison.Ordinal));

    private static readonly string s_policy = $"default-src 'none'; style-src '{Hash(s_style)}'; script-src '{Hash(s_script)}'; connect-src 'self'; "
        + "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    /// <summary>Writes the page.</summary>
    public static async Task Get(HttpContext context)
    {
        var response = context.Response;
        response.ContentType = "text/html; charset=utf-8";
        response.ContentLength = s_page.Length;
        response.Headers.ContentSecurityPolicy = s_policy;
        response.Headers.CacheControl = "no-cache";
        response.Headers["Referrer-Policy"] = "no-referrer";
        await response.Body.WriteAsync(s_page, context.RequestAborted);
    }

    private static string Hash(string text) => "sha256-" + Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(text)));

    // Browsers hash the parsed text, in which every line ends with \n.
    private static string Read(string name)
    {
        using var stream = typeof(PlaygroundPage).Assembly.GetManifestResourceStream(name)!;
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return reader.ReadToEnd().ReplaceLineEndings("\n");
    }
}
