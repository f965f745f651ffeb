using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.AI;
using Tiller.Serving;

var builder = WebApplication.CreateBuilder(args);
builder.Services.AddTiller(new TillerOptions
{
    Model = "models/demo",
    Service = new ServiceOptions { ChatTemplate = "chatml" },
});
var app = builder.Build();
app.MapTiller();
app.MapGet("/ask", async (string question, IChatClient client) =>
    (await client.GetResponseAsync(question, new ChatOptions { MaxOutputTokens = 20 })).Text);
app.Run();
