using Tiller.Checkpoint;

namespace Tiller.Hub;

/// <summary>
/// The source and the destination of a download. Unset options have the values that huggingface_hub uses, from the environment variables HF_ENDPOINT,
/// HF_TOKEN, HF_TOKEN_PATH, HF_HUB_CACHE, HF_HOME and HF_HUB_OFFLINE.
/// </summary>
public sealed record HubPullOptions
{
    private const string PublicHub = "https://huggingface.co";
    private const int LongestToken = 1 << 14;

    /// <summary>A branch, a tag or a commit; null for the one in the model's name, or main.</summary>
    public string? Revision { get; init; }

    /// <summary>A plain folder for the files; null for the cache.</summary>
    public string? Folder { get; init; }

    /// <summary>Folder of the cache, which all models share.</summary>
    public string? Cache { get; init; }

    /// <summary>Address of the hub: https or http, a host, and where the hub is below it.</summary>
    public Uri? Endpoint { get; init; }

    /// <summary>The user's access token. It is sent to the hub only, never to the target of a redirection.</summary>
    public string? Token { get; init; }

    /// <summary>The clock for pauses and for the detection of silent connections.</summary>
    internal TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>The address of the hub, without a slash at its end.</summary>
    /// <exception cref="HubException">The address is invalid, or the environment forbids downloads.</exception>
    internal Uri ResolveEndpoint()
    {
        (string source, string address) = (string.Concat(nameof(HubPullOptions), ".", nameof(Endpoint)), Endpoint?.OriginalString ?? "");
        if (Endpoint is null)
        {
            if (Environment.GetEnvironmentVariable("HF_HUB_OFFLINE") is { } offline && offline.ToUpperInvariant() is "1" or "ON" or "YES" or "TRUE")
            {
                throw new HubException(HubError.Name, "HF_HUB_OFFLINE", "the environment forbids downloads: unset this variable.");
            }

            (source, address) = ("HF_ENDPOINT", Environment.GetEnvironmentVariable("HF_ENDPOINT") is { Length: > 0 } set ? set : PublicHub);
        }

        return Uri.TryCreate(address.TrimEnd('/'), UriKind.Absolute, out Uri? uri) && IsWeb(uri) && uri.Query.Length + uri.Fragment.Length == 0
            ? uri
            : throw new HubException(HubError.Name, source, $"expected an address https://… of a hub, got {Quoted.Text(address)}.");
    }

    /// <summary>The token, or null for none.</summary>
    /// <exception cref="HubException">The token cannot be read, or is not valid.</exception>
    internal string? ResolveToken()
    {
        string? token = Token ?? Environment.GetEnvironmentVariable("HF_TOKEN");
        string source = Token is not null ? nameof(HubPullOptions) : "HF_TOKEN";
        if (string.IsNullOrWhiteSpace(token))
        {
            source = Environment.GetEnvironmentVariable("HF_TOKEN_PATH") is { Length: > 0 } path ? path : Path.Combine(HubCache.Home, "token");
            token = ReadToken(source);
        }

        token = token?.Trim();
        return string.IsNullOrEmpty(token) ? null
            : token.AsSpan().ContainsAnyExceptInRange('!', '~')
                ? throw new HubException(HubError.Name, source, "holds no valid token: a token has only printable ASCII characters and no spaces.")
                : token;
    }

    /// <summary>Whether an address has the scheme http or https.</summary>
    internal static bool IsWeb(Uri address) => address.Scheme == Uri.UriSchemeHttps || address.Scheme == Uri.UriSchemeHttp;

    private static string? ReadToken(string path)
    {
        try
        {
            return System.Text.Encoding.UTF8.GetString(BoundedFile.Read(
                path, LongestToken, length =>
                    new HubException(HubError.Name, path, $"holds no token: it has {length} bytes, expected at most {LongestToken}.")));
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new HubException(HubError.InputOutput, path, "the token cannot be read: " + e.Message, e);
        }
    }
}
