using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;

using var model = LanguageModel.Load("models/demo");
var contrast = ContrastSet.Read("models/demo/contrast/topic.positive.txt", "models/demo/contrast/topic.negative.txt");
var fit = ControllerFit.Run(model, contrast, new FitOptions { Cost = FitCost.Feature });
fit.Controller.Save("sea.tiller");

Console.WriteLine($"{fit.Controller.Source.ModelName}: residual {fit.Report.Residual:E1}, rank {fit.Report.Rank}");
foreach (var (layer, open, closed, effort) in fit.Loop.Layers)
{
    Console.WriteLine($"{layer,2}  μ {fit.Controller.Method.Feature.Mu[layer]:F2}  open {open:F3}  closed {closed:F3}  |w| {effort:F3}");
}
