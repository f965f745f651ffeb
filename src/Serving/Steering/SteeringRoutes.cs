using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Tiller.Serving;

/// <summary><c>PATCH /v1/steering/{id}</c>: changes λ of an answer that is being decoded.</summary>
internal sealed class SteeringRoutes(TillerService service)
{
    public async Task Move(HttpContext context)
    {
        using var body = await RequestBody.ReadJsonAsync(context, service.Options);
        string? id = (string?)context.GetRouteValue("id");
        var answer = service.Answers.Find(id, GuardedRoute.KeyOf(context)) ?? throw Ended(id);
        var fields = new JsonFields(body.RootElement);
        var lambdas = fields.Need("controllers");
        fields.End();
        if (answer.Steering is not { } steering)
        {
            throw ApiException.Bad("controllers", $"The answer {id} is not steered: its request needs 'steering'.", "invalid_value");
        }

        var moved = new Dictionary<int, double>();
        var names = new JsonFields(lambdas, "controllers");
        for (int i = 0; i < steering.Plan.Parts.Count; i++)
        {
            string name = steering.Plan.Parts[i].Name;
            if (names.Take(name) is { } lambda)
            {
                moved[i] = JsonFields.FloatOf(lambda, names.NameOf(name));
            }
        }

        names.End();
        if (moved.Count == 0)
        {
            throw ApiException.Bad("controllers", "'controllers' is empty: name at least one with its λ, such as {\"sea\": 1.2}.", "invalid_value");
        }

        if (!steering.Move(moved))
        {
            throw Ended(id);
        }

        await Reply.JsonAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteString("id", id);
            json.WriteString("object", "steering");
            json.WriteStartObject("controllers");
            for (int i = 0; i < steering.Plan.Parts.Count; i++)
            {
                json.WriteNumber(steering.Plan.Parts[i].Name, steering.Lambdas[i]);
            }

            json.WriteEndObject();
            json.WriteEndObject();
        });
    }

    private static ApiException Ended(string? id) =>
        ApiException.NotFound("id", $"No answer '{id}' is running: it has ended, or belongs to another API key.", "response_not_found");
}
