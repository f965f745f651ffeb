using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Tiller.Serving;

/// <summary><c>PATCH /v1/steering/{id}</c>: λ of an answer under way.</summary>
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
            throw ApiException.Bad("controllers", $"The answer {id} is not steered: ask for it with 'steering'.", "invalid_value");
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
            throw ApiException.Bad("controllers", "'controllers' names none: give at least one and its λ, such as {\"sea\": 1.2}.", "invalid_value");
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
        ApiException.NotFound("id", $"There is no answer '{id}' under way: it has ended, or is another's.", "response_not_found");
}
