using Microsoft.Playwright;

namespace Tiller.Tests.Browser;

/// <summary>The system's Chromium, one for all tests. Without one the tests are ignored, with what to do about it.</summary>
[SetUpFixture]
public sealed class Chromium
{
    private static readonly string[] s_names = ["chromium", "chromium-browser", "google-chrome"];

    private static IPlaywright? s_playwright;
    private static IBrowser? s_browser;

    [OneTimeSetUp]
    public async Task Launch()
    {
        string? path = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
            .SelectMany(folder => s_names.Select(name => Path.Combine(folder, name))).FirstOrDefault(File.Exists);
        if (path is null)
        {
            Assert.Ignore("!! There is no Chromium (chromium, chromium-browser or google-chrome on the PATH): the playground is NOT tested in a "
                + "browser. tools/setup.sh installs it on Debian.");
        }

        Assertions.SetDefaultExpectTimeout((float)Patience.Limit.TotalMilliseconds);
        s_playwright = await Playwright.CreateAsync().InTime();
        s_browser = await s_playwright.Chromium.LaunchAsync(new BrowserTypeLaunchOptions
        {
            ExecutablePath = path,
            Args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"], // pages of this test alone; root has no sandbox
            Timeout = (float)Patience.Limit.TotalMilliseconds,
        }).InTime();
    }

    [OneTimeTearDown]
    public async Task Close()
    {
        if (s_browser is not null)
        {
            await s_browser.CloseAsync();
        }

        s_playwright?.Dispose();
    }

    /// <summary>A page in a context of its own, which fails on an error of its script.</summary>
    public static async Task<IPage> NewPage(Uri address, ColorScheme scheme = ColorScheme.Light, int width = 1280)
    {
        var context = await s_browser!.NewContextAsync(new BrowserNewContextOptions
        {
            BaseURL = address.ToString(),
            ColorScheme = scheme,
            ViewportSize = new ViewportSize { Width = width, Height = 900 },
        }).InTime();
        context.SetDefaultTimeout((float)Patience.Limit.TotalMilliseconds);
        return await context.NewPageAsync().InTime();
    }
}
