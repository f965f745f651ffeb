using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using Tiller.Serving;

namespace Tiller.Tests.Serving;

/// <summary>The page, as it comes over the wire.</summary>
public sealed partial class PlaygroundTests
{
    [Test]
    public async Task The_page_comes_whole_without_a_key_and_names_nothing_elsewhere()
    {
        await using var server = await RunningServer.Start(new ServiceOptions { ApiKeys = ["k"] });
        using var response = await server.Client.GetAsync("/").InTime();
        string page = await response.Content.ReadAsStringAsync().InTime();
        Assert.That((int)response.StatusCode, Is.EqualTo(200));
        Assert.That(response.Content.Headers.ContentType, Is.EqualTo(MediaTypeHeaderValue.Parse("text/html; charset=utf-8")));
        Assert.That(page, Does.Contain("β − v·x").And.Not.Contain("/*script*/").And.Not.Contain("/*style*/"));
        Assert.That(Elsewhere().Matches(page).Select(m => m.Value), Is.Empty);
    }

    [Test]
    public async Task The_pages_policy_admits_its_own_script_and_style_alone()
    {
        await using var server = await RunningServer.Start();
        using var response = await server.Client.GetAsync("/").InTime();
        string page = await response.Content.ReadAsStringAsync().InTime();
        string policy = response.Headers.GetValues("Content-Security-Policy").Single();
        Assert.That(policy, Does.StartWith("default-src 'none'").And.Not.Contain("unsafe"));
        foreach (string element in new[] { "script", "style" })
        {
            string content = page.Split($"<{element}>", 2)[1].Split($"</{element}>", 2)[0];
            Assert.That(content, Has.Length.GreaterThan(1000), element);
            string hash = Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(content)));
            Assert.That(policy, Does.Contain($"{element}-src 'sha256-{hash}'"));
        }
    }

    [Test]
    public async Task What_the_page_and_its_script_refer_to_is_there()
    {
        await using var server = await RunningServer.Start();
        string page = await server.Client.GetStringAsync("/").InTime();
        string[] ids = [.. Ids().Matches(page).Select(m => m.Groups["id"].Value)];
        Assert.That(ids, Is.Unique);
        foreach (string id in Referred().Matches(page).SelectMany(m => m.Groups["id"].Value.Split(' ')))
        {
            Assert.That(ids, Does.Contain(id));
        }

        // The script finds what it looks for.
        foreach (string id in Looked().Matches(page).Select(m => m.Groups["id"].Value))
        {
            Assert.That(ids, Does.Contain(id));
        }
    }

    [GeneratedRegex("""(?:src|href|action)\s*=\s*["'](?!#|data:,)[^"']*["']|https?://|//[a-z]+\.[a-z]+""", RegexOptions.None, 5000)]
    private static partial Regex Elsewhere();

    [GeneratedRegex("""\sid="(?<id>[^"]+)["]""", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Ids();

    [GeneratedRegex("""aria-labelledby="(?<id>[^"]+)["]""", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Referred();

    [GeneratedRegex("""\$\("(?<id>[a-z-]+)"\)""", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Looked();
}
