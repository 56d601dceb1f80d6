// The test application over .NET's SslStream, as Kestrel uses it; see tests/e2e/application.py for what it answers.
// Arguments: ADDRESS CERTIFICATE KEY.
using System;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading.Tasks;

static class App
{
    static readonly Regex Head = new Regex(@"^(\S+) ([^\s?]*).*?\r\n\r\n", RegexOptions.Singleline);
    static readonly Regex Length = new Regex(@"^Content-Length: *(\d+)", RegexOptions.Multiline | RegexOptions.IgnoreCase);

    static string Answer(string method, string path)
    {
        if (path == "/orders" && method == "POST") return Write("201 Created", "{\"number\": 1}");
        if (path.StartsWith("/orders/")) return method == "DELETE" ? Write("204 No Content", null) : Write("200 OK", "{\"state\": \"sent\"}");
        return path.StartsWith("/users/") ? Write("304 Not Modified", null) : Write("404 Not Found", "{}");
    }

    static string Write(string status, string body)
    {
        var fields = body == null ? "" : "Content-Type: application/json\r\nContent-Length: " + body.Length + "\r\n";
        return "HTTP/1.1 " + status + "\r\n" + fields + "\r\n" + body;
    }

    static async void Serve(TcpClient client, X509Certificate2 certificate)
    {
        try
        {
            using (client)
            using (var stream = new SslStream(client.GetStream()))
            {
                client.NoDelay = true;
                await stream.AuthenticateAsServerAsync(certificate);
                var buffer = new byte[65536];
                var text = "";
                for (int count; (count = await stream.ReadAsync(buffer, 0, buffer.Length)) > 0;)
                {
                    text += Encoding.ASCII.GetString(buffer, 0, count);
                    for (Match head; (head = Head.Match(text)).Success;)
                    {
                        var length = Length.Match(head.Value);
                        var end = head.Length + (length.Success ? int.Parse(length.Groups[1].Value) : 0);
                        if (text.Length < end) break;
                        text = text.Substring(end);
                        var method = head.Groups[1].Value;
                        var answer = Answer(method, head.Groups[2].Value);
                        if (method == "HEAD") answer = answer.Substring(0, answer.IndexOf("\r\n\r\n") + 4);
                        var bytes = Encoding.ASCII.GetBytes(answer);
                        await stream.WriteAsync(bytes, 0, bytes.Length);
                    }
                }
            }
        }
        catch (Exception) { } // The connection is over.
    }

    static void Main(string[] arguments) { Listen(arguments).Wait(); }

    static async Task Listen(string[] arguments)
    {
        var listener = new TcpListener(IPAddress.Parse(arguments[0]), 0);
        // The compiler is Mono's, whose own library does not have this method.
        var read = typeof(X509Certificate2).GetMethod("CreateFromPemFile");
        var certificate = (X509Certificate2)read.Invoke(null, new object[] { arguments[1], arguments[2] });
        listener.Start(128);
        Console.WriteLine("{\"event\": \"ready\", \"port\": " + ((IPEndPoint)listener.LocalEndpoint).Port + "}");
        while (true) Serve(await listener.AcceptTcpClientAsync(), certificate);
    }
}
