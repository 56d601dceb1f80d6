// Calls of java.net.http.HttpClient over HTTP/2, all at once. Arguments: ROOT AUTHORITY START.
// It begins when the file START is there: 17 orders, and 6 that are not there.
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Client {
  private static final int BODY_BYTES = 20_000; // Two frames.

  public static void main(String[] arguments) throws Exception {
    KeyStore trusted = KeyStore.getInstance("PKCS12");
    trusted.load(null, null);
    try (InputStream file = Files.newInputStream(Path.of(arguments[1]))) {
      trusted.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(file));
    }
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(trusted);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    HttpClient client = HttpClient.newBuilder().sslContext(context).version(HttpClient.Version.HTTP_2).build();
    System.out.println("{\"event\": \"ready\"}");
    System.out.flush();
    while (!Files.exists(Path.of(arguments[2]))) Thread.sleep(20);
    List<CompletableFuture<HttpResponse<String>>> calls = new ArrayList<>();
    for (int number = 0; number < 23; number++) {
      String path = number < 17 ? "/orders/" + number : "/missing/" + number;
      HttpRequest request =
          HttpRequest.newBuilder(URI.create(arguments[0] + path))
              .method("GET", HttpRequest.BodyPublishers.ofByteArray(new byte[BODY_BYTES]))
              .build();
      calls.add(client.sendAsync(request, HttpResponse.BodyHandlers.ofString()));
      if (number == 0) calls.get(0).join(); // The others share its connection.
    }
    for (CompletableFuture<HttpResponse<String>> call : calls) call.join();
    System.out.println("{\"event\": \"done\"}");
    System.out.flush();
    Thread.sleep(Long.MAX_VALUE);
  }
}
