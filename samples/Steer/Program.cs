using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

using var model = LanguageModel.Load("models/demo");
var contrast = ContrastSet.Read("models/demo/contrast/topic.positive.txt", "models/demo/contrast/topic.negative.txt");
var fit = ControllerFit.Run(model, contrast, new FitOptions { Weights = new LqrWeights(q: 0.03, r: 1, qf: 1) });

var options = new GenerationOptions { Law = fit.Controller.ToLaw(lambda: 1.75), MaxNewTokens = 40 };
await foreach (var token in model.GenerateAsync("Once upon a time", options))
{
    Console.Write(token.Text);
}
